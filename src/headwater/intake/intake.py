"""Accepts a call with events: from its bytes to the log."""

import asyncio
from typing import Final, cast

from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import (
    BadRequest,
    Forbidden,
    HeadwaterError,
    NotFound,
    PayloadTooLarge,
    TooManyRequests,
    Unauthorized,
    Unprocessable,
)
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog
from headwater.connectors.registry import CONNECTORS
from headwater.events import (
    DEFAULT_LIMITS,
    MAX_REJECTED_BYTES,
    PROTOCOLS,
    Envelope,
    Limits,
    ProtocolName,
    Rejection,
    check_events,
)
from headwater.events.canonical import generated_message_id
from headwater.events.protocol import Call, WireProtocol, encode_envelope
from headwater.events.wire import WireEvent
from headwater.intake.authentication import ANONYMOUS, Authenticator, Principal
from headwater.intake.body import check_is_json, decompress
from headwater.intake.ratelimit import Quota, RateLimiter
from headwater.intake.unknownkeys import UnknownKeys
from headwater.log import EventLog, LogEntry

CHECKED_EVENTS: Final = 1_000
"""Events that are checked without a pause. They take less than 20 ms."""
_REJECTING: Final = (BadRequest, Forbidden, NotFound, PayloadTooLarge, Unauthorized, Unprocessable)
"""Errors that depend only on the call, so that sending it again fails again."""


class IncomingCall(Struct, frozen=True):
    """A call with events as it arrived."""

    protocol: ProtocolName
    call: str
    """The call of the protocol, named by its route."""
    body: bytes
    authorization: str | None = None
    """The `Authorization` header."""
    content_encoding: str | None = None
    ip: str = ""
    user_agent: str = ""
    content_type: str = ""
    """The media type of the body; empty if the protocol accepts any."""
    workspace: str | None = None
    """The `Headwater-Workspace` header, which an API key may need."""
    write_key: str | None = None
    """The `X-Write-Key` header, which the track API and typed calls accept."""


class Receipt(Struct, frozen=True):
    """The result of an accepted call, by event."""

    checked: list[WireEvent | Rejection]
    """The stored events, and the reason of each rejection."""
    connection: int = 0
    """The source connection."""
    position: int = 0
    """The position of the first event in the log; the other events follow it."""
    nonce: bytes = b""
    """Message ids of events without one are derived from it."""
    quota: Quota | None = None
    """The remaining quota of the caller; None without a limit."""

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of the response."""
        return self.quota.headers if self.quota else {}

    @property
    def rejections(self) -> list[Rejection | None]:
        """Return the rejection of each event; None for a stored event."""
        return [each if isinstance(each, Rejection) else None for each in self.checked]

    @property
    def accepted(self) -> int:
        """Return the number of stored events."""
        return sum(not isinstance(each, Rejection) for each in self.checked)

    def message_id(self, index: int) -> str | None:
        """Return the message id of event number `index`; None for a rejected event."""
        event = self.checked[index]
        if isinstance(event, Rejection):
            return None
        return cast(str | None, event.message_id) or generated_message_id(self.nonce, index)


async def _check(protocol: WireProtocol, call: Call, limits: Limits) -> list[WireEvent | Rejection]:
    """Check the events of a call in slices: other calls run in between."""
    checked = check_events(protocol, call, limits, 0, CHECKED_EVENTS)
    for first in range(CHECKED_EVENTS, len(call.events), CHECKED_EVENTS):
        await asyncio.sleep(0)
        checked += check_events(protocol, call, limits, first, first + CHECKED_EVENTS)
    return checked


class Intake:
    """Accepts events. `accept` returns when they are durable."""

    def __init__(
        self,
        catalog: Catalog,
        log: EventLog,
        clock: Clock,
        identifiers: Identifiers,
        metrics: Metrics = NO_METRICS,
        limits: Limits = DEFAULT_LIMITS,
        limiter: RateLimiter | None = None,
    ) -> None:
        self._authenticator = Authenticator(catalog)
        self._log = log
        self._clock = clock
        self._identifiers = identifiers
        self._metrics = metrics
        self.limits = limits
        self._limiter = limiter or RateLimiter(clock)
        self._unknown_keys = UnknownKeys(clock)

    async def accept(self, request: IncomingCall) -> Receipt:
        """Store the events of a call.

        Raises Unauthorized, BadRequest, Unprocessable and PayloadTooLarge if the call is rejected as a whole, which is
        stored with its reason, and for API keys Forbidden and NotFound; TooManyRequests and Unavailable if it could not
        be stored, so that the caller should send it again.
        """
        protocol = PROTOCOLS[request.protocol]
        principal = ANONYMOUS
        body = request.body
        try:
            principal = await self._authenticator.from_headers(
                request.protocol, request.authorization, request.workspace, request.write_key
            )
            if principal is ANONYMOUS and not protocol.KEY_IN_BODY:
                raise Unauthorized("a write key is required, as Bearer token")
            limit = protocol.max_body(request.call, self.limits)
            check_is_json(request.content_type)
            body = decompress(body, request.content_encoding, limit=limit)
            call = protocol.read_call(request.call, body)
            principal = await self._authenticator.from_body(request.protocol, principal, call)
            quota = self._charge_quota(request, principal, len(call.events))
        except _REJECTING as error:
            quota = self._charge_quota(
                request, principal, 1
            )  # a rejected call is stored and takes the space of one event
            error.headers |= quota.headers if quota else {}
            self._metrics.events_rejected(request.protocol, error.code, 1)
            await self._store_rejected_call(request, body, principal, error)
            raise
        checked = await _check(protocol, call, self.limits)
        if not checked:
            return Receipt([], quota=quota)
        rejected = {index: outcome for index, outcome in enumerate(checked) if isinstance(outcome, Rejection)}
        envelope = self._envelope(request, principal, rejected=rejected)
        position = await self._log.append(LogEntry(len(checked), encode_envelope(envelope), body))
        self._metrics.events_accepted(request.protocol, len(checked) - len(rejected))
        for rejection in rejected.values():
            self._metrics.events_rejected(request.protocol, rejection.code, 1)
        return Receipt(checked, envelope.connection, position, envelope.nonce, quota)

    def _charge_quota(self, request: IncomingCall, principal: Principal, events: int) -> Quota | None:
        if not principal.workspace:
            return None
        try:
            return self._limiter.take(principal.workspace, principal.key, events)
        except TooManyRequests as error:
            self._metrics.events_rejected(request.protocol, error.code, events)
            raise

    async def _store_rejected_call(
        self, request: IncomingCall, body: bytes, principal: Principal, error: HeadwaterError
    ) -> None:
        """Store a rejected call with its `body`, which is decompressed if possible."""
        if not principal.workspace and not self._unknown_keys.add(error):
            return
        rejection = Rejection(error.code, error.field or "", error.message)
        header = encode_envelope(self._envelope(request, principal, rejection=rejection))
        await self._log.append(LogEntry(1, header, body[:MAX_REJECTED_BYTES]))

    def _envelope(
        self,
        request: IncomingCall,
        principal: Principal,
        *,
        rejection: Rejection | None = None,
        rejected: dict[int, Rejection] | None = None,
    ) -> Envelope:
        source = principal.source
        return Envelope(
            protocol=request.protocol,
            call=request.call,
            workspace=principal.workspace,
            connection=source.id if source else 0,
            received=microseconds(self._clock.now()),
            nonce=self._identifiers.nonce(),
            ip=request.ip,
            user_agent=request.user_agent,
            rejection=rejection,
            limits=self.limits,
            is_client_side=source is not None and CONNECTORS[source.connector].falls_back_to_request_ip,
            rejected=rejected,
        )
