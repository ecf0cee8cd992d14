"""The base of a vendor's server, for tests of connectors on real sockets.

A subclass is written from the vendor's documented rules, not from the connector. `answer` checks a request, changes the
server's state and returns the documented response. Everything that the vendor would not accept of a careful client is
a violation, which tests assert to be empty. So is a request that is not as the vendor's specification for machines
has it, if a package has one: the base validates every request. The base decides the fate of each request by a seed:
handled, throttled, failed, or with a connection that is lost before or after the request took effect.
"""

import asyncio
import re
import socket
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from enum import StrEnum
from random import Random
from typing import Any, ClassVar, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from headwater.connectors.contract import HttpRequest, HttpResponse
from tests.connectors.specifications.specification import Specification, load
from tests.virtualtime import START

RESET: Final = bytes((1, 0, 0, 0, 0, 0, 0, 0))


class Fate(StrEnum):
    """The fate of a request, independent of its content."""

    ANSWERED = "Answered"
    THROTTLED = "Throttled"
    FAILED = "Failed"
    LOST_BEFORE = "LostBefore"
    """The connection ends, and the request had no effect."""
    LOST_AFTER = "LostAfter"
    """The connection ends after the request took effect."""
    REVOKED = "Revoked"
    """The vendor no longer accepts the credentials."""


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """The shares of requests with each fate, and of items that the vendor refuses, for one run.

    After `max_faults` requests with another fate all are handled.
    """

    seed: int = 0
    throttled: float = 0.0
    failed: float = 0.0
    lost_before: float = 0.0
    lost_after: float = 0.0
    refused: float = 0.0
    max_faults: int = 1_000


CALM: Final = Plan()
"""Every request is handled, and no item is refused without a documented rule."""


def draw(seed: int) -> Plan:
    """Return a plan in which some of the faults occur."""
    random = Random(f"plan/{seed}")

    def share(maximum: float) -> float:
        return maximum * random.random() if random.random() < 0.6 else 0.0

    return Plan(
        seed=seed,
        throttled=share(0.2),
        failed=share(0.2),
        lost_before=share(0.15),
        lost_after=share(0.15),
        refused=share(0.05),
        max_faults=random.randrange(1, 40),
    )


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request. `headers` have names in lower case. `at` is the time of its arrival in seconds."""

    method: str
    path: str
    query: Mapping[str, list[str]]
    headers: Mapping[str, str]
    body: bytes
    at: float

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Reply(msgspec.Struct, frozen=True, kw_only=True):
    """One response. A `body` that is not bytes is sent as JSON."""

    status: int = 200
    headers: Mapping[str, str] = {}
    body: Any = b""


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """An event that the server has: its id, its user, and what a test wants to compare."""

    id: str
    user: str
    content: Any = None


class VendorServer(ABC):
    """A vendor's server."""

    ORIGINS: tuple[str, ...] = ()
    """The vendor's origins for which it stands."""
    SPECIFICATION: ClassVar[str] = ""
    """The module of `tests/connectors/specifications` with the vendor's specification; empty without one."""
    FAULTS: tuple[Reply, ...] = (
        Reply(status=500, body={"error": "internal"}),
        Reply(status=502, headers={"content-type": "text/html"}, body=b"<html>bad gateway</html>"),
        Reply(status=503),
    )

    def __init__(self, plan: Plan = CALM, now: Callable[[], float] | None = None) -> None:
        """`now` returns the time in seconds of a monotonic clock; by default that of the loop."""
        self.plan = plan
        self.specification: Specification | None = load(self.SPECIFICATION) if self.SPECIFICATION else None
        """Validates each request; None for measurements."""
        self.violations: list[str] = []
        self.requests: list[Request] = []
        self.accepted: list[Item] = []
        """Each item once, in the order in which they arrived first."""
        self.copies: Counter[str] = Counter()
        """Number of times that each id took effect."""
        self.lost: Counter[str] = Counter()
        """Number of times that each id was in a request that took effect although its response was lost."""
        self.refused: set[str] = set()
        """The ids of items that the vendor refused by a documented rule, or by the plan."""
        self.fates: Counter[Fate] = Counter()
        self.port = 0
        self.is_unlimited = False
        """Whether the vendor's rates are not counted: for measurements."""
        self.rate_divisor = 1
        """Divides the vendor's rates: for measurements of those that one sender does not reach."""
        self.is_revoked = False
        """Whether the vendor refuses the credentials."""
        self._now = now
        self._random = Random(f"{plan.seed}/requests")
        self._windows: defaultdict[tuple[str, int, float], Counter[int]] = defaultdict(Counter)
        self._known: set[str] = set()
        self._effects: list[str] = []
        self._writers: list[asyncio.StreamWriter] = []

    @abstractmethod
    def answer(self, request: Request) -> Reply:
        """Check a request, apply it, and return the documented response."""

    def unauthorized(self) -> Reply:
        """Return the documented response to credentials that are not valid."""
        return Reply(status=401)

    def throttle(self) -> Reply:
        """Return the documented response to too many requests."""
        return Reply(status=429, headers={"retry-after": str(self._random.randrange(1, 4))})

    # For subclasses

    def violate(self, rule: str, request: Request | None = None) -> None:
        """Record that the client broke a documented rule."""
        where = "" if request is None else f"{request.method} {request.path}: "
        self.violations.append(f"{where}{rule}")

    def require(self, condition: object, rule: str, request: Request | None = None) -> bool:
        """Record a violation unless the condition holds, and return whether it does."""
        if not condition:
            self.violate(rule, request)
        return bool(condition)

    def count(self, name: str, count: int, seconds: float, request: Request, *, number: int = 1) -> bool:
        """Count a request in a fixed window of the vendor, or `number` events, and return whether it is within the
        limit."""
        if self.is_unlimited:
            return True
        count //= self.rate_divisor
        offset = Random(f"{self.plan.seed}/{name}/{seconds}").random() * seconds
        window = self._windows[name, count, seconds]
        position = int((request.at + offset) // seconds)
        window[position] += number
        return self.require(window[position] <= count, f"more than {count} in {seconds:g} s ({name})", request)

    def shares(self) -> dict[str, float]:
        """Return the used share of each limit, in the windows between the first and the last one."""
        shares = {}
        for (name, count, seconds), window in self._windows.items():
            inner = [window[number] for number in range(min(window) + 1, max(window))]
            if inner:
                shares[f"{name}, {count} in {seconds:g} s"] = sum(inner) / (len(inner) * count)
        return shares

    def refuses(self, id_: str) -> bool:
        """Return whether the plan refuses an item, which depends on its id alone, and note it."""
        is_refused = Random(f"{self.plan.seed}/{id_}").random() < self.plan.refused
        if is_refused:
            self.refused.add(id_)
        return is_refused

    def today(self) -> datetime:
        """Return the present time, or `START` in virtual time."""
        return datetime.now(UTC) if self._now is None else START

    def accept(self, item: Item, *, key: str = "") -> bool:
        """Take an item, and return whether it is the first with its key: that by which the vendor deduplicates."""
        self._effects.append(item.id)
        key = key or item.id
        is_first = key not in self._known
        if is_first:
            self._known.add(key)
            self.accepted.append(item)
        self.copies[item.id] += 1
        return is_first

    def respond(self, request: HttpRequest) -> HttpResponse:
        """Return the response to a request of a connector without a socket and without faults: for `ScriptedHttp`."""
        parts = urlsplit(request.url)
        received = Request(
            method=request.method,
            path=parts.path,
            query=parse_qs(parts.query, keep_blank_values=True),
            headers=request.headers,
            body=request.body,
            at=0.0,
        )
        self._check_specification(received)
        reply = self.answer(received)
        return HttpResponse(status=reply.status, headers=reply.headers, body=_body(reply))

    # The server

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while (request := await self._read(reader)) is not None:
                reply = self._decide(request)
                if reply is None:
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                    writer.transport.abort()
                    return
                writer.write(_encode(reply))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _check_specification(self, request: Request) -> None:
        """Record how a request violates the vendor's specification."""
        if self.specification is not None:
            for error in self.specification.find_errors(request.method, request.path, request.query, request.body):
                self.violate(f"not as specified: {error}", request)

    def _decide(self, request: Request) -> Reply | None:
        self.requests.append(request)
        self._check_specification(request)
        fate = Fate.REVOKED if self.is_revoked else self._draw()
        self.fates[fate] += 1
        if fate is Fate.REVOKED:
            return self.unauthorized()
        if fate is Fate.THROTTLED:
            return self.throttle()
        if fate is Fate.FAILED:
            return self._random.choice(self.FAULTS)
        if fate is Fate.LOST_BEFORE:
            return None
        self._effects.clear()
        try:
            reply = self.answer(request)
        except (msgspec.DecodeError, AttributeError, LookupError, TypeError, ValueError) as error:
            self.violate(f"the request is malformed: {error!r}", request)
            reply = Reply(status=400)
        if fate is Fate.LOST_AFTER:
            self.lost.update(set(self._effects))
            return None
        return reply

    def _draw(self) -> Fate:
        plan = self.plan
        faults = self.fates.total() - self.fates[Fate.ANSWERED] - self.fates[Fate.REVOKED]
        if faults >= plan.max_faults:
            return Fate.ANSWERED
        number = self._random.random()
        for fate, share in (
            (Fate.THROTTLED, plan.throttled),
            (Fate.FAILED, plan.failed),
            (Fate.LOST_BEFORE, plan.lost_before),
            (Fate.LOST_AFTER, plan.lost_after),
        ):
            if number < share:
                return fate
            number -= share
        return Fate.ANSWERED

    async def _read(self, reader: asyncio.StreamReader) -> Request | None:
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return None
        line, *lines = head.decode("latin-1").strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (each.partition(":") for each in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        method, target, _ = line.split(" ")
        parts = urlsplit(target)
        return Request(
            method=method,
            path=parts.path,
            query=parse_qs(parts.query, keep_blank_values=True),
            headers=headers,
            body=body,
            at=asyncio.get_running_loop().time() if self._now is None else self._now(),
        )

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def origins(self) -> dict[str, str]:
        """Return the setting that lets connectors use this server."""
        return dict.fromkeys(self.ORIGINS, self.origin)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve on a loopback port."""
        listening = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=64 * 1024 * 1024)
        self.port = listening.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            listening.close()
            for writer in self._writers:
                writer.close()


def _body(reply: Reply) -> bytes:
    return reply.body if isinstance(reply.body, bytes) else msgspec.json.encode(reply.body)


def _encode(reply: Reply) -> bytes:
    body = _body(reply)
    headers = {"content-type": "application/json", **reply.headers, "content-length": str(len(body))}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {reply.status} Status\r\n{lines}\r\n".encode() + body


def depth(value: Any) -> int:
    """Return the levels of nested objects and arrays."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 1 + max(map(depth, value), default=0) if isinstance(value, list) else 0


EMAIL: Final = re.compile(r"[^@\s]+@[^@\s.]+(\.[^@\s.]+)+")
