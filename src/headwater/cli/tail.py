"""`headwater events tail`: prints events as they arrive, until Ctrl-C.

A lost connection is opened again. The events that were stored meanwhile are then read from the API, so that an event is
missing only if no pipeline stores it.
"""

import argparse
import json
import queue
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.client import HTTPException
from typing import Final

from headwater.cli.api import Api, format_cell, print_json
from headwater.cli.client import Query, Response
from headwater.cli.errors import ApiError, NoServer
from headwater.cli.events import read_filter
from headwater.cli.tables import parse_identifier, printable, style

SILENT_SECONDS: Final = 45.0
"""Time without a byte after which a connection counts as lost. The server sends one every 15 seconds."""
INITIAL_DELAY_SECONDS: Final = 0.2
MAX_DELAY_SECONDS: Final = 10.0
CATCH_UP_SECONDS: Final = (0.0, 2.0, 10.0)
"""Times after a reconnection at which stored events are read: an event may be stored after the connection is back."""
OVERLAP: Final = timedelta(seconds=5)
"""Events of this time before the last printed one are read again after a reconnection, because order is not strict."""
MAX_REMEMBERED: Final = 50_000
"""Number of the latest events that are recognised as printed."""
MAX_CAUGHT_UP: Final = 50_000
"""Maximum number of missed events that are read after a reconnection."""
_RETRIED: Final = frozenset({408, 422, 429, 500, 502, 503, 504})
"""Statuses after which a call is tried again: 422 is a watch that the server has not ended yet."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A server-sent event."""

    kind: str
    data: str


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection ended."""

    reason: str


@dataclass(slots=True)
class _Printed:
    """The events that were printed, and the latest time of reception among them."""

    latest: datetime
    names: "OrderedDict[tuple[object, object, object], None]" = field(default_factory=OrderedDict)

    def add(self, event: Mapping[str, object]) -> bool:
        """Remember an event; return whether it was not printed before."""
        received = str(event.get("receivedAt", ""))
        name = (event.get("connectionId"), event.get("messageId"), received)
        if received:
            self.latest = max(self.latest, datetime.fromisoformat(received))
        if name in self.names:
            return False
        self.names[name] = None
        if len(self.names) > MAX_REMEMBERED:
            self.names.popitem(last=False)
        return True


def tail_events(api: Api, arguments: argparse.Namespace) -> None:
    """Print events, and outcomes of deliveries if asked for, until Ctrl-C."""
    _Tail(api, arguments).run()


class _Tail:
    def __init__(self, api: Api, arguments: argparse.Namespace) -> None:
        self._api = api
        self._client = replace(api.client, timeout_seconds=SILENT_SECONDS)
        connection = None if arguments.connection is None else str(parse_identifier(arguments.connection))
        selection: Query = {"connection": connection, "filter": read_filter(api.client, arguments.filter)}
        self._selection = selection
        self._query: Query = {**selection, "deliveries": True if arguments.deliveries else None}
        self._left: int | None = arguments.count
        self._began = datetime.now(UTC)
        self._printed = _Printed(self._began)
        self._missed_since = self._began

    def run(self) -> None:
        response = self._client.open("GET", "/v1/events/watch", self._query)
        _note(f"watching {self._client.url}; Ctrl-C ends it")
        catch_up: list[float] = []
        while True:
            with response:
                lost = self._follow(response, catch_up)
            if lost is None:
                return
            _note(f"the connection was lost: {lost.reason}")
            self._missed_since = max(self._began, self._printed.latest - OVERLAP)
            response = self._reconnect()
            _note("connected again")
            catch_up = [time.monotonic() + delay for delay in CATCH_UP_SECONDS]

    def _follow(self, response: Response, catch_up: list[float]) -> Lost | None:
        """Print events of one connection. Return when it is lost, or None when enough events are printed."""
        received: queue.Queue[Sent | Lost] = queue.Queue(maxsize=1_000)
        threading.Thread(target=_read, args=(response, received), daemon=True).start()
        while self._left is None or self._left > 0:
            if catch_up and time.monotonic() >= catch_up[0]:
                catch_up.pop(0)
                try:
                    self._read_missed()
                except (NoServer, ApiError) as error:
                    if isinstance(error, ApiError) and error.status not in _RETRIED:
                        raise
                    return Lost(str(error))
                continue
            wait = max(0.0, catch_up[0] - time.monotonic()) if catch_up else 1.0
            try:
                item = received.get(timeout=min(wait, 1.0) or 0.01)
            except queue.Empty:
                continue
            if isinstance(item, Lost):
                return item
            self._print(item)
        return None

    def _read_missed(self) -> None:
        """Print the events that were stored since the connection was lost."""
        since = self._missed_since.isoformat().replace("+00:00", "Z")
        query: Query = {**self._selection, "order": "receivedAt", "ascending": True, "since": since}
        for item in self._client.items("/v1/events", "events", query, MAX_CAUGHT_UP):
            self._print(Sent("event", item.decode()))

    def _reconnect(self) -> Response:
        delay = INITIAL_DELAY_SECONDS
        while True:
            time.sleep(delay)
            try:
                return self._client.open("GET", "/v1/events/watch", self._query)
            except NoServer:
                pass
            except ApiError as error:
                if error.status not in _RETRIED:
                    raise
            delay = min(2 * delay, MAX_DELAY_SECONDS)

    def _print(self, sent: Sent) -> None:
        if self._left == 0:
            return
        document = json.loads(sent.data)
        if sent.kind == "omitted":
            _note(f"left out: {document['events']} events, {document['deliveries']} outcomes of deliveries")
            return
        if sent.kind == "event" and not self._printed.add(document):
            return
        if self._api.is_json:
            print_json(sent.data.encode())
        elif sent.kind == "event":
            print(format_event(document))
        else:
            print(format_delivery(document))
        sys.stdout.flush()
        if self._left is not None:
            self._left -= 1


def format_event(event: Mapping[str, object]) -> str:
    """Return an event as one line for people."""
    parts = [
        format_cell(event.get("receivedAt"))[11:] or "-",
        f"{event.get('type', '')!s:<8}",
        format_cell(event.get("event") or event.get("name")),
        _pair("user", event.get("userId")),
        _pair("anonymous", event.get("anonymousId")),
        _pair("connection", event.get("connectionId")),
        _pair("message", event.get("messageId")),
    ]
    return printable("  ".join(part for part in parts if part))


def format_delivery(outcome: Mapping[str, object]) -> str:
    """Return the outcome of a delivery as one line for people."""
    parts = [
        format_cell(outcome.get("at"))[11:] or "-",
        "delivery",
        format_cell(outcome.get("outcome")),
        _pair("destination", outcome.get("destination")),
        _pair("pipeline", outcome.get("pipeline")),
        _pair("status", outcome.get("status") or None),
        _pair("message", outcome.get("messageId")),
        format_cell(outcome.get("message")),
    ]
    return printable("  ".join(part for part in parts if part))


def parse_stream(lines: Iterator[bytes]) -> Iterator[Sent]:
    """Yield server-sent events. Comments and unknown fields are ignored."""
    kind = ""
    data: list[str] = []
    for line in lines:
        text = line.decode(errors="replace").rstrip("\r\n")
        if not text:
            if data:
                yield Sent(kind, "\n".join(data))
            kind, data = "", []
            continue
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            kind = value
        elif name == "data":
            data.append(value)


def _read(response: Response, received: "queue.Queue[Sent | Lost]") -> None:
    try:
        for sent in parse_stream(iter(response.message.readline, b"")):
            received.put(sent)
        received.put(Lost("the server ended it"))
    except AttributeError:  # the other thread has closed the response, which then lacks its file
        received.put(Lost("the connection was closed"))
    except (OSError, HTTPException, ValueError) as error:
        received.put(Lost(str(error) or type(error).__name__))


def _pair(name: str, value: object) -> str:
    return "" if value is None or value == "" else f"{name}={value}"


def _note(text: str) -> None:
    print(style(f"headwater: {printable(text)}", "yellow", sys.stderr), file=sys.stderr, flush=True)
