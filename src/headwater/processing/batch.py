"""Reads a batch of frames into what is to be done with it. Pure: the same frames always give the same result."""

from collections.abc import Iterable
from typing import Final

import msgspec
import structlog
from msgspec import Raw, Struct

from headwater.base.clock import microseconds
from headwater.events import PROTOCOLS, Envelope, Event, ProtocolName, Rejection, check_events
from headwater.events.call import Call
from headwater.events.canonical import Canonical, canonical
from headwater.events.context import Locate
from headwater.events.envelope import decode_envelope
from headwater.events.record import event_record
from headwater.events.wire import MAX_TEXT_LENGTH, is_long_id
from headwater.log import StoredEntry
from headwater.schemas import Record
from headwater.state import LatestCall, Message, RejectedEvent

_log = structlog.get_logger(__name__)
_NOT_CARRIED: Final = "the event was accepted but could not be carried"
_UNREADABLE: Final = Rejection("InternalServerError", "", "the call was accepted but could not be read again")


class Arrival(Struct, frozen=True):
    """An accepted event, at its position."""

    position: int
    workspace: int
    protocol: ProtocolName
    event: Event
    document: bytes
    message: Message
    """What the ledger knows it by."""
    at: int
    """When it happened, in microseconds since the epoch."""
    notes: tuple[str, ...] = ()
    """What was sent but is not used, and why, for the trace."""

    def record(self) -> Record:
        """The event as filters and transformations see it."""
        return event_record(self.event)


class Batch(Struct, frozen=True):
    """What a number of frames hold, in the order of the log."""

    arrivals: list[Arrival]
    rejected: list[RejectedEvent]
    calls: list[LatestCall]
    """The latest call of each source connection."""
    last: int
    """The position of the last event."""


class BatchReader:
    """Takes frames apart, one after the other, into accepted and refused events.

    A frame that cannot be read, or an event in it, which a defect of ours would be, is kept among the refused ones: it
    may not hold up all that comes after it, nor cost its neighbours in the call, which were accepted as well.
    """

    def __init__(self, locate: Locate | None = None) -> None:
        """`locate` finds the places of events that say none."""
        self._locate = locate
        self._arrivals: list[Arrival] = []
        self._rejected: list[RejectedEvent] = []
        self._calls: dict[int, LatestCall] = {}
        self._last = 0
        self.size = 0
        """The bytes of the accepted events' documents. What a call says once, its context above all, stands in the
        document of each of its events: they may be a hundred times as large as the frames."""

    def add(self, stored: StoredEntry) -> None:
        """Read one more frame."""
        self._last = stored.last
        envelope = _envelope(stored)
        if envelope.connection:
            self._calls[envelope.connection] = LatestCall(
                envelope.connection, envelope.workspace, envelope.received_at, envelope.protocol
            )
        if envelope.rejection is not None:
            self._rejected.append(_rejected(stored.position, envelope, envelope.rejection, stored.entry.body))
            return
        try:
            call, rejected = _read_call(stored, envelope)
        except Exception:
            _log.exception("frame cannot be read", position=stored.position)
            self._rejected.append(_rejected(stored.position, envelope, _UNREADABLE, stored.entry.body))
            return
        for index, source in enumerate(call.events):
            position = stored.position + index
            outcome = rejected.get(index) or _read_event(position, source, call, envelope, index, self._locate)
            if isinstance(outcome, Rejection):
                self._rejected.append(_rejected(position, envelope, outcome, bytes(source), _message_id(source)))
            else:
                self._arrivals.append(outcome)
                self.size += len(outcome.document)

    def batch(self) -> Batch:
        """All that was read."""
        return Batch(self._arrivals, self._rejected, list(self._calls.values()), self._last)


def read_batch(entries: Iterable[StoredEntry]) -> Batch:
    """All frames at once."""
    reader = BatchReader()
    for stored in entries:
        reader.add(stored)
    return reader.batch()


def _envelope(stored: StoredEntry) -> Envelope:
    try:
        return decode_envelope(stored.entry.header)
    except msgspec.DecodeError:
        _log.exception("header of a frame cannot be read", position=stored.position)
        return Envelope("track", "", 0, 0, 0, b"", rejection=_UNREADABLE)


def _read_call(stored: StoredEntry, envelope: Envelope) -> tuple[Call, dict[int, Rejection]]:
    """The call in a frame, and which of its events were refused, by their number."""
    protocol = PROTOCOLS[envelope.protocol]
    call = protocol.read_call(envelope.call, stored.entry.body)
    if envelope.rejected is not None:
        return call, envelope.rejected
    checked = enumerate(check_events(protocol, call, envelope.limits))
    return call, {index: outcome for index, outcome in checked if isinstance(outcome, Rejection)}


def _read_event(
    position: int, source: Raw, call: Call, envelope: Envelope, index: int, locate: Locate | None
) -> Arrival | Rejection:
    try:
        wire, extra = PROTOCOLS[envelope.protocol].read(source, call)
        return _arrival(position, envelope, canonical(wire, extra, call, envelope, index, locate))
    except Exception:
        _log.exception("event cannot be read", position=position)
        return _UNREADABLE


def as_rejected(arrival: Arrival) -> RejectedEvent:
    """An accepted event that could not be carried, as it is kept then."""
    return RejectedEvent(
        position=arrival.position,
        workspace=arrival.workspace,
        connection=arrival.event.connection_id,
        protocol=arrival.protocol,
        received_at=arrival.event.received_at,
        code="InternalServerError",
        path="",
        message=_NOT_CARRIED,
        body=arrival.document,
        message_id=arrival.event.message_id,
    )


def _arrival(position: int, envelope: Envelope, made: Canonical) -> Arrival:
    event, document, notes = made
    message = Message(position, (event.connection_id, event.message_id), envelope.received)
    at = microseconds(event.timestamp)
    return Arrival(position, envelope.workspace, envelope.protocol, event, document, message, at, notes)


class _Identified(Struct, rename="camel"):
    message_id: str | int | None = None


_decode_identified = msgspec.json.Decoder(_Identified).decode


def _message_id(source: Raw) -> str | None:
    """The message id of a refused event, by which people ask for it; None for what no accepted event could have, which
    may be the very reason of the refusal."""
    try:
        message_id = _decode_identified(source).message_id
    except (msgspec.DecodeError, RecursionError):
        return None
    text = "" if message_id is None else str(message_id)
    return text if 0 < len(text) <= MAX_TEXT_LENGTH and not is_long_id(text) and "\0" not in text else None


def _rejected(
    position: int, envelope: Envelope, rejection: Rejection, body: bytes, message_id: str | None = None
) -> RejectedEvent:
    return RejectedEvent(
        position=position,
        workspace=envelope.workspace,
        connection=envelope.connection,
        protocol=envelope.protocol,
        received_at=envelope.received_at,
        code=rejection.code,
        path=rejection.path,
        message=rejection.message,
        body=body,
        message_id=message_id,
    )
