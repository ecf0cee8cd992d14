"""The path of a call with events, from its bytes to the log."""

from typing import Final

from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import BadRequest, HeadwaterError, PayloadTooLarge, Unauthorized, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog, Connection
from headwater.connectors.catalogue import CONNECTORS
from headwater.eventlog import EventLog, Frame
from headwater.events import DEFAULT_LIMITS, DIALECTS, DialectName, Envelope, Limits, Refusal
from headwater.events.envelope import encode_envelope
from headwater.events.wire import WireEvent
from headwater.intake.credentials import write_key_of
from headwater.intake.inflate import inflate

MAX_KEPT_BYTES: Final = 64 * 1024
"""How much of a call that was refused as a whole is kept."""
UNKNOWN_KEYS_PER_SECOND: Final = 10
"""How many refused calls with an unknown key are kept each second: nobody may fill our disk without a key."""


class IncomingCall(Struct, frozen=True):
    """A call with events as it came in."""

    dialect: DialectName
    call: str
    """Which call of the dialect: what its route names."""
    body: bytes
    authorization: str | None = None
    content_encoding: str | None = None
    ip: str = ""
    user_agent: str = ""


class Receipt(Struct, frozen=True):
    """What became of the events of an accepted call, in their order."""

    refusals: list[Refusal | None]
    """None for an event that is stored."""

    @property
    def accepted(self) -> int:
        """How many events are stored."""
        return self.refusals.count(None)


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
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._clock = clock
        self._identifiers = identifiers
        self._metrics = metrics
        self._limits = limits
        self._unknown_keys = _Allowance(UNKNOWN_KEYS_PER_SECOND)

    async def accept(self, request: IncomingCall) -> Receipt:
        """Store the events of a call.

        Raises Unauthorized, BadRequest, Unprocessable and PayloadTooLarge when the call is refused as a whole, which is
        kept; and TooManyRequests and Unavailable when it could not be stored, which the caller should repeat.
        """
        dialect = DIALECTS[request.dialect]
        source: Connection | None = None
        body = request.body
        try:
            key = write_key_of(request.authorization)
            if key is not None or not dialect.KEY_IN_BODY:
                source = await self._source_of(key)
            limit = dialect.max_body(request.call, self._limits)
            body = inflate(body, request.content_encoding, limit=limit)
            call = dialect.read_call(request.call, body)
            if source is None:
                source = await self._source_of(call.write_key)
        except (BadRequest, Unauthorized, Unprocessable, PayloadTooLarge) as error:
            self._metrics.events_refused(request.dialect, error.code, 1)
            await self._keep(request, body, source, error)
            raise
        refusals = [_refusal(dialect.check(event, call, self._limits)) for event in call.events]
        if refusals:
            envelope = self._envelope(request, source)
            await self._log.append(Frame(len(refusals), encode_envelope(envelope), body))
        return self._counted(request, Receipt(refusals))

    def _counted(self, request: IncomingCall, receipt: Receipt) -> Receipt:
        self._metrics.events_accepted(request.dialect, receipt.accepted)
        for refusal in receipt.refusals:
            if refusal is not None:
                self._metrics.events_refused(request.dialect, refusal.code, 1)
        return receipt

    async def _source_of(self, key: str | None) -> Connection:
        if not key:
            raise Unauthorized("a write key is required: as Basic user, as Bearer token, or as writeKey in the body")
        source = self._catalog.source_of(key)
        if source is None:
            await self._catalog.refresh()  # another process may have made the key a moment ago
            source = self._catalog.source_of(key)
        if source is None:
            raise Unauthorized("the write key is not known")
        return source

    async def _keep(self, request: IncomingCall, body: bytes, source: Connection | None, error: HeadwaterError) -> None:
        """Keep a refused call with its `body`, which is inflated where that was possible."""
        if source is None and not self._unknown_keys.take(self._clock):
            return
        refusal = Refusal(error.code, error.field or "", error.message)
        header = encode_envelope(self._envelope(request, source, refusal))
        await self._log.append(Frame(1, header, body[:MAX_KEPT_BYTES]))

    def _envelope(self, request: IncomingCall, source: Connection | None, refusal: Refusal | None = None) -> Envelope:
        return Envelope(
            dialect=request.dialect,
            call=request.call,
            workspace=source.workspace if source else 0,
            connection=source.id if source else 0,
            received=microseconds(self._clock.now()),
            nonce=self._identifiers.nonce(),
            ip=request.ip,
            user_agent=request.user_agent,
            refusal=refusal,
            limits=self._limits,
            is_client_side=source is not None and CONNECTORS[source.connector].falls_back_to_request_ip,
        )


def _refusal(checked: WireEvent | Refusal) -> Refusal | None:
    return checked if isinstance(checked, Refusal) else None


class _Allowance:
    """So many a second."""

    def __init__(self, per_second: int) -> None:
        self._per_second = per_second
        self._second = 0
        self._taken = 0

    def take(self, clock: Clock) -> bool:
        second = int(clock.now().timestamp())
        if second != self._second:
            self._second, self._taken = second, 0
        self._taken += 1
        return self._taken <= self._per_second
