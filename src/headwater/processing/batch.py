"""Decodes a batch of log entries into accepted and rejected events. Pure: the same entries give the same result."""

from collections.abc import Iterable
from typing import Final

import msgspec
import structlog
from msgspec import Raw, Struct

from headwater.base.clock import microseconds
from headwater.events import Envelope, Event, ProtocolName, Rejection
from headwater.events.canonical import Canonical
from headwater.events.context import Locate
from headwater.events.devices import device_change
from headwater.events.envelope import decode_envelope
from headwater.events.reader import CallReader
from headwater.events.wire import MAX_TEXT_LENGTH, find_email, is_long_id
from headwater.log import StoredEntry
from headwater.state import (
    NO_DOCUMENT,
    DeviceEvent,
    IdentityObservation,
    LaneEntry,
    LatestCall,
    Message,
    RejectedEvent,
    TraitsUpdate,
)
from headwater.warehouse import StoredEvent

_log = structlog.get_logger(__name__)
_NOT_PROCESSED: Final = "the event was accepted but could not be processed"
_UNREADABLE: Final = Rejection("InternalServerError", "", "the call was accepted but could not be read again")


class AcceptedEvent(Struct, frozen=True):
    """An accepted event at its position, and its rows."""

    position: int
    workspace: int
    protocol: ProtocolName
    event: Event
    document: bytes
    message: Message
    """The message, for deduplication."""
    at: int
    """Time of the event, in microseconds since the epoch."""
    notes: tuple[str, ...] = ()
    """The values that are not used, each with the reason, for the trace."""

    @property
    def claims_once(self) -> bool:
        """Return whether it is an alias of the client API, which applies only to an id that no user has, and has no
        data."""
        return self.protocol == "client" and self.event.type == "alias"

    def user(self) -> tuple[str | None, bool]:
        """Return the user id of the event, and whether the event is about a person; a group event without ids is
        not."""
        event = self.event
        user_id = event.user_id
        if user_id is None and event.anonymous_id is None and event.type == "identify":
            user_id = find_email(event.traits)
        return user_id, user_id is not None or event.anonymous_id is not None

    def traits_update(self) -> TraitsUpdate | None:
        """Return the update of a user's traits; None for other protocols, whose events contain all traits."""
        if self.protocol != "client":
            return None
        event = self.event
        previous_id = event.previous_id if event.type == "alias" else None
        return TraitsUpdate(event.connection_id, event.user_id, event.anonymous_id, event.traits, previous_id)

    def device_event(self) -> DeviceEvent | None:
        """Return the device change in the event; None if there is no device or no user."""
        event = self.event
        change = device_change(event)
        if change is None or (event.user_id is None and event.anonymous_id is None):
            return None
        return DeviceEvent(
            workspace=self.workspace,
            connection=event.connection_id,
            user_id=event.user_id,
            anonymous_id=event.anonymous_id,
            at=self.at,
            change=change,
        )

    def stored_by(self, pipeline: int) -> StoredEvent:
        """Return the event in the form that an Event pipeline stores."""
        event = self.event
        return StoredEvent(
            self.position,
            self.workspace,
            event.connection_id,
            pipeline,
            self.at,
            self.message.received_at,
            event.type,
            event.event,
            event.user_id,
            event.anonymous_id,
            self.document,
        )

    def observation(
        self,
        user_id: str | None,
        pipelines: tuple[int, ...],
        attributes: tuple[str, ...],
        reaches: tuple[int, ...],
        *,
        claims: bool,
    ) -> IdentityObservation:
        """Return the observation of the event's user by these pipelines, with the attributes in each."""
        event = self.event
        return IdentityObservation(
            self.workspace,
            event.connection_id,
            pipelines,
            user_id,
            event.anonymous_id,
            self.at,
            attributes,
            self._previous_id(),
            self.claims_once,
            reaches,
            claims,
        )

    def lane_entry(
        self, user_id: str | None, *, is_observed: bool = False, document: int = NO_DOCUMENT, claims: bool = True
    ) -> LaneEntry:
        """Return the entry for the lane of a pipeline."""
        event = self.event
        return LaneEntry(
            self.position,
            event.message_id,
            self.at,
            user_id,
            event.anonymous_id,
            self._previous_id(),
            self.claims_once,
            is_observed,
            document,
            claims,
        )

    def rejected(self) -> RejectedEvent:
        """Return the event as it is stored if it cannot be processed."""
        return RejectedEvent(
            position=self.position,
            workspace=self.workspace,
            connection=self.event.connection_id,
            protocol=self.protocol,
            received_at=self.event.received_at,
            code="InternalServerError",
            path="",
            message=_NOT_PROCESSED,
            body=self.document,
            message_id=self.event.message_id,
        )

    def _previous_id(self) -> str | None:
        event = self.event
        return event.previous_id if event.type == "alias" and event.user_id is not None else None


class Batch(Struct, frozen=True):
    """The events of a number of log entries, in the order of the log."""

    accepted: list[AcceptedEvent]
    rejected: list[RejectedEvent]
    calls: list[LatestCall]
    """The latest call of each source connection."""
    last: int
    """The position of the last event."""


class BatchReader:
    """Decodes log entries, one after another, into accepted and rejected events.

    If a bug makes an entry or an event unreadable, it is stored as rejected: the events after it, and the other events
    of the call, were accepted as well and are processed.
    """

    def __init__(self, locate: Locate | None = None) -> None:
        """`locate` looks up the location of events that do not include one."""
        self._locate = locate
        self._accepted: list[AcceptedEvent] = []
        self._rejected: list[RejectedEvent] = []
        self._calls: dict[int, Envelope] = {}
        self._last = 0
        self.size = 0
        """Size of the accepted events' documents. It can be a hundred times that of the entries, because each document
        repeats the members of its call, above all the context."""

    def add(self, stored: StoredEntry) -> None:
        """Decode one more entry."""
        entry, first = stored.entry, stored.position
        self._last = first + entry.events - 1
        envelope = _decode_header(stored)
        if envelope.connection:
            self._calls[envelope.connection] = envelope
        if envelope.rejection is not None:
            self._rejected.append(_rejected(first, envelope, envelope.rejection, entry.body))
            return
        try:
            reader = CallReader(envelope, entry.body, self._locate)
        except Exception:
            _log.exception("log entry cannot be read", position=first)
            self._rejected.append(_rejected(first, envelope, _UNREADABLE, entry.body))
            return
        for index in range(len(reader)):
            try:
                outcome = reader.read(index)
            except Exception:
                _log.exception("event cannot be read", position=first + index)
                outcome = _UNREADABLE
            if isinstance(outcome, Rejection):
                source = reader.source(index)
                self._rejected.append(
                    _rejected(first + index, envelope, outcome, bytes(source), _read_message_id(source))
                )
            else:
                self._accepted.append(_accepted(first + index, envelope, outcome))
                self.size += len(outcome[1])

    def batch(self) -> Batch:
        """Return all decoded events."""
        calls = [
            LatestCall(connection, envelope.workspace, envelope.received_at, envelope.protocol)
            for connection, envelope in self._calls.items()
        ]
        return Batch(self._accepted, self._rejected, calls, self._last)


def read_batch(entries: Iterable[StoredEntry]) -> Batch:
    """Decode all entries together."""
    reader = BatchReader()
    for stored in entries:
        reader.add(stored)
    return reader.batch()


def _decode_header(stored: StoredEntry) -> Envelope:
    try:
        return decode_envelope(stored.entry.header)
    except msgspec.DecodeError:
        _log.exception("header of a log entry cannot be read", position=stored.position)
        return Envelope("track", "", 0, 0, 0, b"", rejection=_UNREADABLE)


def _accepted(position: int, envelope: Envelope, read: Canonical) -> AcceptedEvent:
    event, document, notes = read
    message = Message(position, (envelope.connection, event.message_id), envelope.received)
    at = microseconds(event.timestamp)
    return AcceptedEvent(position, envelope.workspace, envelope.protocol, event, document, message, at, notes)


class _Identified(Struct, rename="camel"):
    message_id: str | int | None = None


_decode_identified = msgspec.json.Decoder(_Identified).decode


def _read_message_id(source: Raw) -> str | None:
    """Return the message id of a rejected event; None if no accepted event could have it."""
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
