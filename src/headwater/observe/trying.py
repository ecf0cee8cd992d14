"""Tries a pipeline on stored events before it is saved. Nothing is written, and nothing is sent.

Filters and mappings run in the processes for computations, functions in the sandboxes for trials. Events are tried in
slices. A trial that takes too long ends early, with the events that were tried until then.
"""

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Protocol

import msgspec
from msgspec import Raw, Struct

from headwater.base.computing import Computing
from headwater.base.errors import HeadwaterError
from headwater.base.fairness import FairSlots
from headwater.base.steps import ProcessingStep, StepOutcome
from headwater.catalog import Connection, Pipeline
from headwater.connectors.connector import Role
from headwater.events.raw import ABSENT, is_object
from headwater.events.record import document_record
from headwater.events.wire import find_email
from headwater.filters import (
    CheckedFilter,
    ConditionOutcome,
    Predicate,
    check_filter,
    compile_filter,
    explain,
    parse_json,
)
from headwater.processing.deliveries import EXCLUDED, selects
from headwater.processing.plans import integration_names
from headwater.processing.transformer import MAX_FUNCTION_SECONDS, failure
from headwater.schemas import EVENT_SCHEMA, Codec, InvalidValue, Record, Schema, all_optional, parse_schema
from headwater.state import MAX_ATTRIBUTES_BYTES, attributes_fit
from headwater.transforms.functions import (
    Function,
    FunctionFailed,
    Prepared,
    RecordError,
    Runner,
    RunOutput,
    outcomes,
    prepare,
)
from headwater.transforms.mapping import CompiledMapping, MappingFailed, Purpose
from headwater.warehouse import EventCursor, EventQuery, Warehouse

DEFAULT_EVENTS: Final = 100
MAX_EVENTS: Final = 1_000
MAX_DOCUMENTS_BYTES: Final = 8 << 20
"""Maximum size of the events of one trial."""
MAX_RESULTS_BYTES: Final = 8 << 20
"""Maximum size of the results of one trial: outputs, requests and messages."""
MAX_SECONDS: Final = 20.0
"""Time after which a trial ends early. Callers wait longer for a response."""
MAX_TRIALS: Final = 2
"""Trials that run at the same time in one process, of different workspaces."""
MAX_WAITING_TRIALS: Final = 4
"""Trials of one workspace that may wait."""
MAX_SLOT_SECONDS: Final = 20.0
"""Maximum time that a trial waits for others, and then for a sandbox."""
SLICE_EVENTS: Final = 100
MAX_SLICE_BYTES: Final = 1 << 20
"""Events that are computed together: no more than this number, and about this size."""
MAX_PAGES: Final = 20
"""Pages that are read from the warehouse for one trial. Each is limited in its work."""
MAX_BATCH_SECONDS: Final = 1.0
"""Time limit of a function for several events. Events that exceed it together are tried in halves."""

_YIELD_SECONDS: Final = 0.01

LimitReached = Literal["Time", "Size"]
"""The limit that ended a trial before all events were tried."""

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode
_NOT_ABOUT_PERSON: Final = "the event is not about a person"


class TrialResult(Struct, frozen=True):
    """The effect of a pipeline on one event."""

    outcome: StepOutcome
    step: ProcessingStep
    """The last step that the event reached."""
    message: str = ""
    """The reason, for people; empty if the event passed or a condition rejected it."""
    condition: ConditionOutcome | None = None
    """The condition that decided, if the filter rejected the event."""
    output: bytes | None = None
    """The attributes of the user or the values of the event type, a JSON object; None if the pipeline has none."""
    request: str | None = None
    """The request that would be sent, without secrets; None if the pipeline sends nothing."""

    @property
    def size(self) -> int:
        """The approximate size of the result, in bytes."""
        return len(self.message) + len(self.output or b"") + len(self.request or "")


class TriedEvent(Struct, frozen=True):
    """A stored event, and the effects of the pipelines on it."""

    document: bytes
    result: TrialResult
    saved: TrialResult | None
    """The effect of the saved pipeline, if it is another one."""


class TriedPipeline(Struct, frozen=True):
    """The results of a trial: the event that was received last is the first."""

    events: Sequence[TriedEvent]
    stopped_by: LimitReached | None
    """The limit that was reached before all events were tried; None if all were."""


class Previewer(Protocol):
    """Shows the requests of a pipeline that sends events."""

    def preview(self, document: bytes, values: Record) -> TrialResult:
        """Return the result for an event with these values: passed with its request, or failed. Computes only."""
        ...


class TrialPart(Struct, frozen=True):
    """A pipeline in a trial. It can be pickled."""

    pipeline: Pipeline
    role: Role
    names: frozenset[str]
    """The names by which the `integrations` of an event refer to the destination, in lower case."""
    owner: str
    """The unique owner of its function, so that its state between calls is visible to no other pipeline."""

    @property
    def is_sent(self) -> bool:
        """Whether the pipeline sends events to a destination."""
        return self.role == "Destination"

    @property
    def purpose(self) -> Purpose:
        """The use of the output."""
        return "Create" if self.is_sent else "Import"


class PipelineTrier:
    """Tries pipelines in one backend process."""

    def __init__(self, warehouse: Warehouse, functions: Runner, computing: Computing) -> None:
        self._warehouse = warehouse
        self._functions = functions
        self._computing = computing
        self._slots = FairSlots(MAX_TRIALS, per_owner=1, max_waiting=MAX_WAITING_TRIALS, what="trials of pipelines")

    async def run(
        self,
        connection: Connection,
        draft: Pipeline,
        saved: Pipeline | None,
        *,
        limit: int,
        previewer: Previewer | None = None,
        saved_previewer: Previewer | None = None,
    ) -> TriedPipeline:
        """Try a pipeline of a connection on the last events of its source, at most `limit`.

        `saved` is the pipeline that the draft would replace, to compare with. The previewers show the requests of
        pipelines that send events. Raises Unprocessable with TooExpensive, TooManyRequests if too many trials of the
        workspace wait, and Unavailable.
        """
        owner = f"workspace {connection.workspace}"
        parts = [(_part(draft, connection), previewer)]
        if saved is not None and saved.definition != draft.definition:
            parts.append((_part(saved, connection), saved_previewer))
        async with self._slots.slot(owner, seconds=MAX_SLOT_SECONDS):
            until = time.monotonic() + MAX_SECONDS
            documents, stopped_by = await self._documents(connection, limit)
            tried: list[TriedEvent] = []
            size = 0
            for some in _slices(documents):
                results = [await self._try(part, shown, some, owner, until) for part, shown in parts]
                for document, result, *others in zip(some, *results, strict=False):
                    other = next((one for one in others if one != result), None)
                    size += result.size + (0 if other is None else other.size)
                    if tried and size > MAX_RESULTS_BYTES:
                        return TriedPipeline(tried, "Size")
                    tried.append(TriedEvent(document, result, other))
                if min(map(len, results)) < len(some) or (time.monotonic() > until and len(tried) < len(documents)):
                    return TriedPipeline(tried, "Time")
        return TriedPipeline(tried, stopped_by)

    async def _documents(self, connection: Connection, limit: int) -> tuple[list[bytes], LimitReached | None]:
        """Return the last stored events of the source of a connection, and whether their size was limited."""
        sources = (connection.id,) if connection.role == "Source" else connection.linked_connections
        if not sources:
            return [], None
        query = EventQuery(workspace=connection.workspace, connections=sources, order="receivedAt")
        documents: list[bytes] = []
        size = 0
        after: EventCursor | None = None
        for _ in range(MAX_PAGES):
            page = await self._warehouse.events(
                query, ascending=False, after=after, offset=0, limit=limit - len(documents)
            )
            for document in page.documents:
                size += len(document)
                if documents and size > MAX_DOCUMENTS_BYTES:
                    return documents, "Size"
                documents.append(document)
            after = page.cursor
            if after is None or len(documents) == limit:
                break
        return documents, None

    async def _try(
        self, part: TrialPart, previewer: Previewer | None, documents: Sequence[bytes], owner: str, until: float
    ) -> list[TrialResult]:
        """Return the results for the documents, or for the first of them if the time is up."""
        found = await self._computing.run(owner, evaluate, part, documents)
        waiting = [index for index, result in enumerate(found) if result.outcome == "Pending"]
        computed = await self._run_function(part, [documents[index] for index in waiting], owner, until)
        for index, result in zip(waiting, computed, strict=False):
            found[index] = result
        results = found if len(computed) == len(waiting) else found[: waiting[len(computed)]]
        return results if previewer is None else await _previewed(part, previewer, documents, results)

    async def _run_function(
        self, part: TrialPart, documents: Sequence[bytes], owner: str, until: float
    ) -> list[TrialResult]:
        """Return the results of a function, or the first of them if the time is up.

        Events that exceed a limit together are tried in halves, so that only those fail that exceed it alone.
        """
        results: list[TrialResult] = []
        ranges = [(0, len(documents))] if documents else []
        while ranges:
            start, end = ranges.pop()
            is_alone = end - start == 1
            seconds = min(MAX_FUNCTION_SECONDS if is_alone else MAX_BATCH_SECONDS, until - time.monotonic())
            if seconds <= 0:
                break
            some = documents[start:end]
            prepared = await self._computing.run(owner, prepare_function, part, some)
            try:
                ran = await self._functions.run_prepared(prepared, seconds, owner=owner, wait=MAX_SLOT_SECONDS)
                results += await self._computing.run(owner, finish_function, part, ran, len(some))
            except FunctionFailed as error:
                if is_alone:
                    results.append(TrialResult("Failed", "Transformation", error.message))
                else:
                    middle = (start + end) // 2
                    ranges += [(middle, end), (start, middle)]
        return results


async def _previewed(
    part: TrialPart, previewer: Previewer, documents: Sequence[bytes], results: Sequence[TrialResult]
) -> list[TrialResult]:
    """Return the results with the requests of the events that passed. Other tasks run every 10 ms."""
    codec = _codec(part)
    shown: list[TrialResult] = []
    slice_began = time.perf_counter()
    for document, result in zip(documents, results, strict=False):
        if result.outcome == "Passed":
            values = {} if codec is None or result.output is None else codec.decode(result.output)
            result = msgspec.structs.replace(previewer.preview(document, values), output=result.output)
        shown.append(result)
        if time.perf_counter() > slice_began + _YIELD_SECONDS:
            await asyncio.sleep(0)
            slice_began = time.perf_counter()
    return shown


def evaluate(part: TrialPart, documents: Sequence[bytes]) -> list[TrialResult]:
    """Run the filter and the mapping of a pipeline. The result of an event that its function gets is Pending.

    Pure, but slow: it runs in a process for computations.
    """
    try:
        evaluator = _Evaluator(part)
    except HeadwaterError as error:  # a saved pipeline, by rules that changed since it was saved
        return [TrialResult("Failed", "Filter", error.message)] * len(documents)
    return [evaluator.result(document) for document in documents]


def prepare_function(part: TrialPart, documents: Sequence[bytes]) -> Prepared:
    """Return the program of a pipeline's function, and these events as its batch."""
    records = [document_record(_decode_members(document)) for document in documents]
    return prepare(_function(part), records, EVENT_SCHEMA, _out_schema(part.pipeline), part.purpose)


def finish_function(part: TrialPart, ran: RunOutput, count: int) -> list[TrialResult]:
    """Return the results of events from what their function returned. Raises FunctionFailed."""
    schema, codec = _out_schema(part.pipeline), _codec(part)
    assert codec is not None, "a function has an output"
    return [
        TrialResult("Failed", outcome.step, _with_line(outcome))
        if isinstance(outcome, RecordError)
        else _encoded(part, codec, outcome)
        for outcome in outcomes(_function(part), ran, count, EVENT_SCHEMA, schema, part.purpose)
    ]


class _Evaluator:
    """The compiled filter and mapping of a pipeline. Raises BadRequest for a definition that breaks a rule."""

    def __init__(self, part: TrialPart) -> None:
        self._part = part
        definition = part.pipeline.definition
        self._filter: CheckedFilter | None = None
        self._passes: Predicate | None = None
        given = None if definition.filter is None else parse_json(definition.filter)
        if given is not None:
            self._filter = check_filter(given, EVENT_SCHEMA, role=part.role, target=part.pipeline.target)
            self._passes = compile_filter(self._filter)
        self._mapping: CompiledMapping | None = None
        self._codec = _codec(part)
        transformation = definition.transformation
        self._has_function = transformation is not None and transformation.function is not None
        if transformation is not None and transformation.mapping is not None:
            self._mapping = CompiledMapping(transformation.mapping, EVENT_SCHEMA, _out_schema(part.pipeline))

    def result(self, document: bytes) -> TrialResult:
        """Return the result for one event. A bug becomes a failure of the event, as in the worker."""
        step: ProcessingStep = "Filter"
        try:
            event = _decode_members(document)
            record = document_record(event)
            if (rejected := self._rejected(event, record)) is not None:
                return rejected
            step = "Transformation"
            return self._transformed(record)
        except Exception as error:
            return TrialResult("Failed", step, str(failure(error)))

    def _rejected(self, event: Mapping[str, Raw], record: Record) -> TrialResult | None:
        if self._part.pipeline.target == "User" and not _is_about_person(event, record):
            return TrialResult("Filtered", "Filter", _NOT_ABOUT_PERSON)
        integrations = event.get("integrations", ABSENT)
        if self._part.is_sent and is_object(integrations) and not selects(bytes(integrations), self._part.names):
            return TrialResult("Filtered", "Filter", EXCLUDED)
        if self._filter is None or self._passes is None or self._passes(record):
            return None
        decided = next(each for each in explain(self._filter, record).conditions if each.decided)
        return TrialResult("Filtered", "Filter", condition=decided)

    def _transformed(self, record: Record) -> TrialResult:
        part = self._part
        # An alias joins ids of a person: User pipelines do not transform it.
        is_joining = part.pipeline.target == "User" and record.get("type") == "alias"
        if self._has_function and not is_joining:
            return TrialResult("Pending", "Transformation")
        if self._mapping is None or self._codec is None or is_joining:
            return TrialResult("Passed", "Finalize")
        try:
            return _encoded(part, self._codec, self._mapping.apply(record, part.purpose))
        except MappingFailed as error:
            return TrialResult("Failed", error.step, error.message)


def _encoded(part: TrialPart, codec: Codec, values: Record) -> TrialResult:
    try:
        output = codec.encode(values)
    except InvalidValue as error:
        return TrialResult("Failed", "OutputValidation", error.message)
    if part.pipeline.target == "User" and not attributes_fit(output.decode()):
        reason = f"the attributes have more than {MAX_ATTRIBUTES_BYTES} bytes as JSON"
        return TrialResult("Failed", "Transformation", reason)
    return TrialResult("Passed", "Finalize", output=output)


def _is_about_person(event: Mapping[str, Raw], record: Record) -> bool:
    """Return whether User pipelines process the event; see `AcceptedEvent.user`."""
    if "userId" in record or "anonymousId" in record:
        return True
    return record.get("type") == "identify" and find_email(event.get("traits", ABSENT)) is not None


def _part(pipeline: Pipeline, connection: Connection) -> TrialPart:
    return TrialPart(pipeline, connection.role, integration_names(connection.connector), secrets.token_hex(16))


def _slices(documents: Sequence[bytes]) -> list[list[bytes]]:
    """Divide documents into slices that one computation can process."""
    slices: list[list[bytes]] = []
    size = 0
    for document in documents:
        if not slices or len(slices[-1]) == SLICE_EVENTS or size + len(document) > MAX_SLICE_BYTES:
            slices.append([])
            size = 0
        slices[-1].append(document)
        size += len(document)
    return slices


def _with_line(error: RecordError) -> str:
    return error.message if error.line is None else f"{error.message} (line {error.line})"


def _function(part: TrialPart) -> Function:
    transformation = part.pipeline.definition.transformation
    assert transformation is not None and transformation.function is not None, "it has a function"
    return transformation.function.function(owner=part.owner)


def _codec(part: TrialPart) -> Codec | None:
    """Return the codec of the output, of which a destination may be given a part; None without an output."""
    if part.pipeline.definition.out_schema is None:
        return None
    schema = _out_schema(part.pipeline)
    return Codec(all_optional(schema) if part.is_sent else schema)


def _out_schema(pipeline: Pipeline) -> Schema:
    schema = parse_schema(pipeline.definition.out_schema or "null")
    assert schema is not None, "a transformation has an output schema"
    return schema
