"""Prepares events for a destination: transforms each by the pipeline, and encodes it in the destination's form.

    preparer = await compile_preparer(pipeline, sink, event_types, functions, clock)     keep it with the definition
    events = [SourceEvent(document), ...]                                                share them between pipelines
    results = await preparer.prepare(events)                      an EncodedEvent or a Rejected for each, in their order

A failure affects one event of one pipeline. `SourceEvent` decodes its document once for all pipelines.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from hashlib import blake2b
from typing import Final, Protocol, TypeAlias

import msgspec
import structlog

from headwater.base.clock import Clock
from headwater.base.errors import HeadwaterError, Unavailable, Unprocessable
from headwater.base.steps import ProcessingStep
from headwater.base.throttle import Throttle
from headwater.catalog import Pipeline
from headwater.connectors.contract import (
    EncodedEvent,
    EventRejected,
    EventSink,
    EventType,
    OutgoingEvent,
    SinkPolicy,
)
from headwater.delivery.items import EVENT_TOO_OLD
from headwater.events.event import Event, decode_event
from headwater.events.record import COMPLETE, RecordReader
from headwater.processing.transformer import MAX_FUNCTION_SECONDS
from headwater.schemas import EVENT_SCHEMA, InvalidValue, Record, Schema, misalignment, parse_schema
from headwater.transforms.functions import Function, FunctionFailed, Outcome, RecordError, Runner
from headwater.transforms.mapping import CompiledMapping, MappingFailed

MAX_MESSAGE_CHARACTERS: Final = 1_000
"""Maximum length of the message of a rejection."""
INITIAL_RUN_EVENTS: Final = 16
MAX_RUN_EVENTS: Final = 256
"""Events that a function gets in one run. The number grows while runs are quick."""
MAX_RUN_BYTES: Final = 1 << 20
"""Approximate maximum size of the documents of one run."""
LIMITS_TO_PAUSE: Final = 4
"""Consecutive runs that reach a limit before the function is paused."""
INITIAL_PAUSE_SECONDS: Final = 10.0
MAX_PAUSE_SECONDS: Final = 300.0
"""Maximum pause. Each pause doubles the previous one. After it one event is tried."""
_SLICE_SECONDS: Final = 0.01
"""Duration after which other tasks of the process run."""

_log = structlog.get_logger(__name__)
_throttle: Final = Throttle()


class Rejected(msgspec.Struct, frozen=True):
    """The reason why an event has no form for the destination.

    `step` is "Transformation" or "OutputValidation", or "Finalize" if the connector rejects the event. `reason` is a
    short code, the same for equal causes; `message` is for people, and has no value of the event.
    """

    step: ProcessingStep
    reason: str
    message: str


Prepared: TypeAlias = EncodedEvent | Rejected
"""The result for one event."""


class PreparationDelayed(Unavailable):
    """The function of a pipeline cannot run at present. `seconds` is the minimum wait."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


class SourceEvent:
    """An event from the queue. It is decoded when it is first needed, and once for all pipelines."""

    __slots__ = ("_event", "_record", "_records", "document", "keys")

    def __init__(self, document: bytes, records: RecordReader = COMPLETE) -> None:
        """`document` is the event as canonical JSON. `records` reads the properties that the pipelines need."""
        self.document: Final = document
        self._records = records
        self._event: Event | None = None
        self._record: Record | None = None
        self.keys: dict[int, str] = {}
        """The idempotency keys that were computed, by pipeline."""

    @property
    def event(self) -> Event:
        """The fields of the event. Raises msgspec.DecodeError if the document is not one that was stored."""
        if self._event is None:
            self._event = decode_event(self.document)
        return self._event

    @property
    def record(self) -> Record:
        """The event for filters and transformations: a record of `EVENT_SCHEMA`."""
        if self._record is None:
            self._record = self._records.read(self.event)
        return self._record


Encode: TypeAlias = Callable[[SourceEvent, Record], Prepared]
"""Encodes an event with the values that its transformation returned. Never raises."""


class Transformation(Protocol):
    """Computes the values of an event type from events."""

    in_paths: Sequence[str]
    """The paths of the properties that it reads."""

    async def prepare(self, events: Sequence[SourceEvent], encode: Encode) -> list[Prepared]:
        """Return the result for each event, in their order; the values of each are encoded before the next are read,
        because together they may exceed the memory.

        The list may be shorter than the events, but is never empty: the caller passes the remaining ones again. Raises
        Unavailable if not even the first event could be transformed at present.
        """
        ...


class MappingTransformation:
    """Maps each event by itself, or sends the event alone if there is no mapping."""

    def __init__(self, mapping: CompiledMapping | None) -> None:
        self._mapping = mapping
        self.in_paths: Sequence[str] = () if mapping is None else mapping.in_paths

    async def prepare(self, events: Sequence[SourceEvent], encode: Encode) -> list[Prepared]:
        """Return the result for each event. Other tasks run every 10 ms."""
        results: list[Prepared] = []
        slice_began = time.perf_counter()
        for event in events:
            values = {} if self._mapping is None else map_event(self._mapping, event)
            results.append(values if isinstance(values, Rejected) else encode(event, values))
            if time.perf_counter() > slice_began + _SLICE_SECONDS:
                await asyncio.sleep(0)
                slice_began = time.perf_counter()
        return results


class FunctionTransformation:
    """Passes events to a function in a sandbox, in runs.

    Only an event that reaches a limit of time or memory alone, twice, is rejected. A function that keeps reaching
    limits is paused. After the pause one event is tried.
    """

    def __init__(
        self, runner: Runner, function: Function, schema: Schema, now: Callable[[], float] = time.monotonic
    ) -> None:
        """`schema` is the pipeline's output schema, and `now` returns the seconds of a monotonic clock."""
        self.in_paths: Sequence[str] = function.in_paths
        self._runner = runner
        self._now = now
        self._function = function
        self._schema = schema
        self._run_events = INITIAL_RUN_EVENTS
        self._limits = 0
        self._pauses = 0
        self._paused_until = 0.0
        self._reason = ""
        self._suspect: bytes | None = None
        """The document of an event that reached a limit alone and is tried once more."""

    async def prepare(self, events: Sequence[SourceEvent], encode: Encode) -> list[Prepared]:
        """Return the results of one run."""
        while True:
            wait = self._paused_until - self._now()
            if wait > 0:
                raise PreparationDelayed(self._reason, wait)
            records = self._records(events)
            if isinstance(records, Rejected):
                return [records]
            began = self._now()
            try:
                outcomes = await self._runner.stream(
                    self._function, records, EVENT_SCHEMA, self._schema, MAX_FUNCTION_SECONDS, purpose="Create"
                )
            except FunctionFailed as error:
                if rejection := self._limited(events[: len(records)], error):
                    return [rejection]
                continue
            self._grow(self._now() - began)
            return await _encode_outcomes(events, outcomes, encode)

    def _records(self, events: Sequence[SourceEvent]) -> list[Record] | Rejected:
        """Return the records of the next run, or the rejection of the first event if it has none."""
        records: list[Record] = []
        size = 0
        for event in events[: self._run_events]:
            size += len(event.document)
            if records and size > MAX_RUN_BYTES:
                break
            try:
                records.append(event.record)
            except Exception as error:
                if not records:
                    return _internal_error(error)
                break  # the event is the first of the next run
        return records

    def _limited(self, run: Sequence[SourceEvent], error: FunctionFailed) -> Rejected | None:
        """Continue after a run that failed as a whole; return the rejection of an event that failed alone twice."""
        rejection = None
        if len(run) == 1:
            if self._suspect == run[0].document:
                self._suspect = None
                rejection = Rejected("Transformation", "FunctionFailed", error.message[:MAX_MESSAGE_CHARACTERS])
            else:
                self._suspect = run[0].document
        self._run_events = 1
        self._limits += 1
        if self._limits >= LIMITS_TO_PAUSE:
            self._limits = LIMITS_TO_PAUSE - 1
            seconds = min(INITIAL_PAUSE_SECONDS * 2 ** min(self._pauses, 30), MAX_PAUSE_SECONDS)
            self._pauses += 1
            self._paused_until = self._now() + seconds
            self._reason = f"the function is paused, because it keeps failing: {error.message}"
            _log.warning("a function keeps reaching a limit and is paused", owner=self._function.owner, seconds=seconds)
        return rejection

    def _grow(self, seconds: float) -> None:
        self._limits = self._pauses = 0
        self._suspect = None
        if seconds < MAX_FUNCTION_SECONDS / 8:
            self._run_events = min(2 * self._run_events, MAX_RUN_EVENTS)
        elif seconds > MAX_FUNCTION_SECONDS / 2:
            self._run_events = max(self._run_events // 2, 1)


async def _encode_outcomes(
    events: Sequence[SourceEvent], outcomes: Iterator[Outcome], encode: Encode
) -> list[Prepared]:
    results: list[Prepared] = []
    slice_began = time.perf_counter()
    for event, outcome in zip(events, outcomes, strict=False):
        results.append(_rejected(outcome) if isinstance(outcome, RecordError) else encode(event, outcome))
        if time.perf_counter() > slice_began + _SLICE_SECONDS:
            await asyncio.sleep(0)
            slice_began = time.perf_counter()
    return results


class Preparer:
    """Prepares the events of one destination pipeline.

    It is for one definition of the pipeline and one sink. Keep it, because compiling takes much longer than preparing.
    """

    def __init__(
        self, pipeline: int, event_type: str, sink: EventSink, transformation: Transformation, clock: Clock
    ) -> None:
        self.in_paths: Final = transformation.in_paths
        """The paths of the event's properties that the pipeline reads."""
        self._pipeline = pipeline
        self._sink = sink
        self._policy: SinkPolicy = sink.policy
        self._event_type = event_type
        self._transformation = transformation
        self._clock = clock
        self._keys = DeliveryKeys(pipeline)

    def key(self, event: SourceEvent) -> str:
        """Return the idempotency key of the event in this pipeline."""
        key = event.keys.get(self._pipeline)
        if key is None:
            key = event.keys[self._pipeline] = self._keys.of(event.event)
        return key

    async def prepare(self, events: Sequence[SourceEvent]) -> list[Prepared]:
        """Return the encoded event or the rejection of each event, in their order.

        The list may be shorter than the events, but has at least one result: pass the remaining events again. Raises
        Unavailable if the function of the pipeline cannot run at present, as PreparationDelayed if it is paused.
        """
        return await self._transformation.prepare(events, self._encode) if events else []

    def _encode(self, event: SourceEvent, values: Record) -> Prepared:
        policy = self._policy
        if policy.max_age_seconds is not None or policy.max_future_seconds is not None:
            at = event.event.timestamp
            age = (self._clock.now() - at).total_seconds()
            if policy.max_age_seconds is not None and age > policy.max_age_seconds:
                return _outside(EVENT_TOO_OLD, at, f"of the last {_duration(policy.max_age_seconds)}")
            if policy.max_future_seconds is not None and -age > policy.max_future_seconds:
                return _outside("EventInFuture", at, f"up to {_duration(policy.max_future_seconds)} in the future")
        return encode_event(self._sink, event, self._event_type, self.key(event), values)


def _outside(reason: str, at: datetime, accepted: str) -> Rejected:
    """Reject an event whose time is not among those that the destination accepts."""
    message = f"the event is from {at:%Y-%m-%d %H:%M:%S} UTC, and the destination accepts those {accepted}"
    return Rejected("Finalize", reason, message)


def _duration(seconds: float) -> str:
    """Return a duration in hours, or in minutes below two hours."""
    return f"{seconds / 3_600:g} hours" if seconds >= 7_200 else f"{seconds / 60:g} minutes"


class _RejectingTransformation:
    """Rejects all events of a pipeline that cannot run with its present definition."""

    def __init__(self, rejection: Rejected) -> None:
        self._rejection = rejection
        self.in_paths: Sequence[str] = ()

    async def prepare(self, events: Sequence[SourceEvent], _encode: Encode) -> list[Prepared]:
        return [self._rejection for _ in events]


class DeliveryKeys:
    """The idempotency keys of one pipeline: equal for all attempts, restarts and re-sends of an event."""

    def __init__(self, pipeline: int) -> None:
        self._hash = blake2b(key=pipeline.to_bytes(8), digest_size=16)

    def of(self, event: Event) -> str:
        """Return 32 hexadecimal digits that depend on the pipeline, the source connection and the message id."""
        hash_ = self._hash.copy()
        hash_.update(event.connection_id.to_bytes(8) + event.message_id.encode())
        return hash_.hexdigest()


async def compile_preparer(
    pipeline: Pipeline, sink: EventSink, event_types: Sequence[EventType], functions: Runner, clock: Clock
) -> Preparer:
    """Compile a pipeline that sends events, in a thread because a large mapping takes long.

    `event_types` are those that the sink offers at present. If the pipeline cannot run (its event type does not exist,
    or has another schema than the pipeline was created for), the preparer rejects every event with the reason.
    """
    transformation = await asyncio.to_thread(_transformation, pipeline, event_types, functions)
    return Preparer(pipeline.id, pipeline.event_type, sink, transformation, clock)


def _transformation(pipeline: Pipeline, event_types: Sequence[EventType], functions: Runner) -> Transformation:
    try:
        out_schema = parse_schema(pipeline.definition.out_schema or "null")
        check_event_type(pipeline.event_type, out_schema, event_types)
        return _compile(pipeline, out_schema, functions)
    except Unprocessable as error:
        return _RejectingTransformation(Rejected("OutputValidation", error.code, error.message))
    except HeadwaterError as error:
        _log.error("a pipeline cannot run", pipeline=pipeline.id, reason=error.message)
        return _RejectingTransformation(Rejected("Transformation", "PipelineInvalid", error.message))
    except Exception as error:  # a bug, which may not stop the other pipelines of the destination
        return _RejectingTransformation(_internal_error(error))


def _compile(pipeline: Pipeline, out_schema: Schema | None, functions: Runner) -> Transformation:
    transformation = pipeline.definition.transformation
    if transformation is None or out_schema is None:
        return MappingTransformation(None)
    if transformation.function is not None:
        # Each version of a function is another function, which shares nothing with the former one.
        owner = f"{pipeline.workspace}/{pipeline.id}/{hash(transformation.function)}"
        return FunctionTransformation(functions, transformation.function.function(owner=owner), out_schema)
    return MappingTransformation(CompiledMapping(transformation.mapping or {}, EVENT_SCHEMA, out_schema))


def check_event_type(
    type_: str, out_schema: Schema | None, event_types: Sequence[EventType], *, member: str = "eventType"
) -> EventType:
    """Return the event type if values of `out_schema` can be sent as it.

    Raises Unprocessable with EventTypeNotExist, whose field is `member`, or with SchemaNotAligned.
    """
    found = next((each for each in event_types if each.id == type_), None)
    if found is None:
        raise Unprocessable("EventTypeNotExist", f'event type "{type_[:100]}" does not exist', field=member)
    difference = misalignment(out_schema, found.schema, "CreateOnly")
    if difference is not None:
        raise Unprocessable(
            "SchemaNotAligned", f"outSchema is not that of the event type: {difference.cause}", field="outSchema"
        )
    return found


def map_event(mapping: CompiledMapping, event: SourceEvent) -> Record | Rejected:
    """Return the values that a mapping of the event schema computes for the event. Never raises."""
    try:
        return mapping.apply(event.record, "Create")
    except MappingFailed as error:
        return Rejected(error.step, _REASONS[error.step], error.message[:MAX_MESSAGE_CHARACTERS])
    except Exception as error:
        return _internal_error(error)


def encode_event(sink: EventSink, event: SourceEvent, event_type: str, key: str, values: Record) -> Prepared:
    """Return the event in the destination's form, within its size limit. Never raises."""
    try:
        fields = event.event
        encoded = sink.encode(
            OutgoingEvent(
                key=key,
                message_id=fields.message_id,
                source=fields.connection_id,
                type=fields.type,
                event_type=event_type,
                timestamp=fields.timestamp,
                received_at=fields.received_at,
                document=event.document,
                values=values,
                user_id=fields.user_id or "",
                anonymous_id=fields.anonymous_id or "",
            )
        )
    except EventRejected as error:
        return Rejected("Finalize", error.reason, error.message[:MAX_MESSAGE_CHARACTERS])
    except InvalidValue as error:
        return Rejected("OutputValidation", "InvalidOutput", error.message[:MAX_MESSAGE_CHARACTERS])
    except Exception as error:
        return _internal_error(error, "Finalize")
    limit = sink.policy.limits.max_event_bytes
    if limit is not None and len(encoded.body) > limit:
        message = f"the event has {len(encoded.body)} bytes, and the destination accepts {limit}"
        return Rejected("Finalize", "EventTooLarge", message)
    return encoded


_REASONS: Final[dict[ProcessingStep, str]] = {
    "Transformation": "TransformationFailed",
    "OutputValidation": "InvalidOutput",
}


def _rejected(error: RecordError) -> Rejected:
    where = "" if error.line is None else f" (line {error.line})"
    return Rejected(error.step, _REASONS[error.step], f"{error.message[:MAX_MESSAGE_CHARACTERS]}{where}")


def _internal_error(error: Exception, step: ProcessingStep = "Transformation") -> Rejected:
    """Return the rejection of an event that caused an unexpected error, and log the error's class."""
    if isinstance(error, RecursionError):
        return Rejected(step, "TooDeep", "the event is nested too deeply")
    name = type(error).__name__
    if count := _throttle.passes(name):
        _log.error("internal error in preparing an event", error=name, count=count, exc_info=error)
    return Rejected(step, "InternalError", f"internal error ({name})")
