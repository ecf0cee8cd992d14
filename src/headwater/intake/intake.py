"""The path of a call with events, from its bytes to the log."""

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
from headwater.events.envelope import encode_envelope
from headwater.events.wire import WireEvent
from headwater.intake.authentication import ANONYMOUS, Authenticator, Principal
from headwater.intake.decompression import decompress
from headwater.intake.mediatype import check_is_json
from headwater.intake.ratelimit import Quota, RateLimiter
from headwater.intake.unknownkeys import UnknownKeys
from headwater.log import EventLog, LogEntry

_REFUSING: Final = (BadRequest, Forbidden, NotFound, PayloadTooLarge, Unauthorized, Unprocessable)
"""What refuses a call whoever sends it again."""


class IncomingCall(Struct, frozen=True):
    """A call with events as it came in."""

    protocol: ProtocolName
    call: str
    """Which call of the dialect: what its route names."""
    body: bytes
    authorization: str | None = None
    content_encoding: str | None = None
    ip: str = ""
    user_agent: str = ""
    content_type: str = ""
    """Of the body; empty where any is taken for JSON, as most dialects do."""
    workspace: str | None = None
    """The `Headwater-Workspace` header, which an API key may need."""


class Receipt(Struct, frozen=True):
    """What became of the events of an accepted call, in their order."""

    checked: list[WireEvent | Rejection]
    """What is stored, and why the rest is not."""
    connection: int = 0
    """The source."""
    position: int = 0
    """The position of the first event in the log; the others follow it."""
    nonce: bytes = b""
    """From which the message ids are made of events that brought none."""
    quota: Quota | None = None
    """What the sender may still send; None without a limit."""

    @property
    def headers(self) -> dict[str, str]:
        """What goes with the answer."""
        return self.quota.headers if self.quota else {}

    @property
    def rejections(self) -> list[Rejection | None]:
        """None for an event that is stored."""
        return [each if isinstance(each, Rejection) else None for each in self.checked]

    @property
    def accepted(self) -> int:
        """How many events are stored."""
        return sum(not isinstance(each, Rejection) for each in self.checked)

    def message_id(self, index: int) -> str | None:
        """The message id of event number `index`; None for one that is not stored."""
        event = self.checked[index]
        if isinstance(event, Rejection):
            return None
        return cast(str | None, event.message_id) or generated_message_id(self.nonce, index)


class Intake:
    """Accepts events. Returns from `accept` when they are durable."""

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

        Raises Unauthorized, BadRequest, Unprocessable and PayloadTooLarge when the call is refused as a whole, which is
        kept, and for API keys Forbidden and NotFound; TooManyRequests and Unavailable when it could not be stored: the
        caller should repeat it.
        """
        protocol = PROTOCOLS[request.protocol]
        principal = ANONYMOUS
        body = request.body
        try:
            principal = await self._authenticator.from_headers(
                request.protocol, request.authorization, request.workspace
            )
            if principal is ANONYMOUS and not protocol.KEY_IN_BODY:
                raise Unauthorized("a write key is required, as Bearer token")
            check_is_json(request.content_type)
            limit = protocol.max_body(request.call, self.limits)
            body = decompress(body, request.content_encoding, limit=limit)
            call = protocol.read_call(request.call, body)
            principal = await self._authenticator.from_body(request.protocol, principal, call)
            quota = self._take(request, principal, len(call.events))
        except _REFUSING as error:
            quota = self._take(request, principal, 1)  # it is kept, and so takes room as an event does
            error.headers |= quota.headers if quota else {}
            self._metrics.events_rejected(request.protocol, error.code, 1)
            await self._keep(request, body, principal, error)
            raise
        checked = check_events(protocol, call, self.limits)
        if not checked:
            return Receipt([], quota=quota)
        rejected = {index: outcome for index, outcome in enumerate(checked) if isinstance(outcome, Rejection)}
        envelope = self._envelope(request, principal, rejected=rejected)
        position = await self._log.append(LogEntry(len(checked), encode_envelope(envelope), body))
        return self._counted(request, Receipt(checked, envelope.connection, position, envelope.nonce, quota))

    def _take(self, request: IncomingCall, principal: Principal, events: int) -> Quota | None:
        if not principal.workspace:
            return None
        try:
            return self._limiter.take(principal.workspace, principal.key, events)
        except TooManyRequests as error:
            self._metrics.events_rejected(request.protocol, error.code, events)
            raise

    def _counted(self, request: IncomingCall, receipt: Receipt) -> Receipt:
        self._metrics.events_accepted(request.protocol, receipt.accepted)
        for each in receipt.checked:
            if isinstance(each, Rejection):
                self._metrics.events_rejected(request.protocol, each.code, 1)
        return receipt

    async def _keep(self, request: IncomingCall, body: bytes, principal: Principal, error: HeadwaterError) -> None:
        """Keep a refused call with its `body`, which is inflated where that was possible."""
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
