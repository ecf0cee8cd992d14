"""The path of a call with events, from its bytes to the log."""

from typing import Final

from msgspec import Struct

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import BadRequest, HeadwaterError, PayloadTooLarge, Unauthorized
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Catalog, Connection
from headwater.eventlog import EventLog, Frame
from headwater.events import Dialect, Envelope, Refusal, track
from headwater.events.envelope import encode_envelope
from headwater.intake.credentials import write_key_of
from headwater.intake.inflate import inflate

MAX_KEPT_BYTES: Final = 64 * 1024
"""How much of a call that was refused as a whole is kept."""
UNKNOWN_KEYS_PER_SECOND: Final = 10
"""How many refused calls with an unknown key are kept each second: nobody may fill our disk without a key."""


class TrackCall(Struct, frozen=True):
    """A call of the track API as it came in."""

    call: str
    """An event type, or "batch"."""
    body: bytes
    authorization: str | None = None
    content_encoding: str | None = None
    ip: str = ""
    user_agent: str = ""
    dialect: Dialect = "track"


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
    ) -> None:
        self._catalog = catalog
        self._log = log
        self._clock = clock
        self._identifiers = identifiers
        self._metrics = metrics
        self._unknown_keys = _Allowance(UNKNOWN_KEYS_PER_SECOND)

    async def accept(self, request: TrackCall) -> Receipt:
        """Store the events of a call.

        Raises Unauthorized, BadRequest and PayloadTooLarge when the call is refused as a whole, which is kept; and
        TooManyRequests and Unavailable when it could not be stored, which the caller should repeat.
        """
        source: Connection | None = None
        try:
            key = write_key_of(request.authorization)
            if key is not None:
                source = await self._source_of(key)
            body = inflate(request.body, request.content_encoding, limit=_limit(request.call))
            call = track.read_call(request.call, body)
            if source is None:
                source = await self._source_of(call.write_key)
        except (BadRequest, Unauthorized, PayloadTooLarge) as error:
            self._metrics.events_refused(request.dialect, error.code, 1)
            await self._keep(request, source, error)
            raise
        refusals = [_refusal(track.check(event, call.type)) for event in call.events]
        if refusals:
            envelope = self._envelope(request, source)
            await self._log.append(Frame(len(refusals), encode_envelope(envelope), body))
        return self._counted(request, Receipt(refusals))

    def _counted(self, request: TrackCall, receipt: Receipt) -> Receipt:
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

    async def _keep(self, request: TrackCall, source: Connection | None, error: HeadwaterError) -> None:
        if source is None and not self._unknown_keys.take(self._clock):
            return
        refusal = Refusal(error.code, error.field or "", error.message)
        header = encode_envelope(self._envelope(request, source, refusal))
        await self._log.append(Frame(1, header, request.body[:MAX_KEPT_BYTES]))

    def _envelope(self, request: TrackCall, source: Connection | None, refusal: Refusal | None = None) -> Envelope:
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
        )


def _limit(call: str) -> int:
    return track.MAX_BATCH_BYTES if call == "batch" else track.MAX_EVENT_BYTES


def _refusal(checked: track.WireEvent | Refusal) -> Refusal | None:
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
