"""Trials of pipelines on stored events: the call TryPipeline of PipelineService."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final

import msgspec
from msgspec import Struct

from headwater.api.messages.schema import explanation_message
from headwater.base.clock import Clock
from headwater.base.computing import Computing
from headwater.base.errors import BadRequest, HeadwaterError, Unprocessable
from headwater.catalog import Catalog, Connection, Pipeline
from headwater.connectors.contract import Attempt, EventSink
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.redaction import Redactor, format_request
from headwater.delivery.preparing import DeliveryKeys, Rejected, SourceEvent, check_event_type, encode_event
from headwater.management.applications import offered_event_types
from headwater.management.pipelines import DraftPipeline
from headwater.observe.trying import (
    DEFAULT_EVENTS,
    MAX_EVENTS,
    PipelineTrier,
    Previewer,
    TrialResult,
    TriedEvent,
    TriedPipeline,
)
from headwater.schemas import Record, parse_schema
from headwater.transforms.functions import Runner
from headwater.v1 import pipelines_pb2 as pb
from headwater.warehouse import Warehouse

_YIELD_EVENTS: Final = 50
"""Number of messages that are made before other tasks of the process run."""


class _Event(Struct, rename="camel"):
    connection_id: int
    message_id: str
    type: str
    received_at: datetime
    event: str | None = None


_decode_event: Final = msgspec.json.Decoder(_Event).decode


class PipelineTrials:
    """Tries pipelines, and makes the responses."""

    def __init__(
        self,
        catalog: Catalog,
        warehouse: Warehouse,
        functions: Runner,
        clock: Clock,
        computing: Computing,
        environment: ConnectorEnvironment,
    ) -> None:
        self._catalog = catalog
        self._clock = clock
        self._environment = environment
        self._trier = PipelineTrier(warehouse, functions, computing)

    async def run(self, draft: DraftPipeline, request: pb.TryPipelineRequest) -> pb.TryPipelineResponse:
        """Return the response for a draft. Raises BadRequest, and what `PipelineTrier.run` raises."""
        limit = read_limit(request)
        async with self._previewers(draft) as (previewer, saved_previewer):
            tried = await self._trier.run(
                draft.connection,
                draft.pipeline,
                draft.saved,
                limit=limit,
                previewer=previewer,
                saved_previewer=saved_previewer,
            )
        return await _response(tried)

    @asynccontextmanager
    async def _previewers(self, draft: DraftPipeline) -> AsyncIterator[tuple[Previewer | None, Previewer | None]]:
        """Yield the previewers of the draft and of the saved pipeline; None for those that send nothing."""
        connection = draft.connection
        make = self._catalog.connectors[connection.connector].engine.event_sink
        if connection.role != "Destination" or make is None:
            yield None, None
            return
        settings = self._catalog.decrypt_settings(connection)
        redactor = Redactor(() if settings is None else settings.secrets())
        opening = self._environment.context(
            connection.connector, connection.id, settings, workspace=connection.workspace
        )
        async with opening as context:
            sink = make(settings, context)
            saved = (
                None if draft.saved is None else await self._saved_previewer(connection, draft.saved, sink, redactor)
            )
            yield RequestPreviewer(draft.pipeline, sink, redactor, self._clock), saved

    async def _saved_previewer(
        self, connection: Connection, saved: Pipeline, sink: EventSink, redactor: Redactor
    ) -> Previewer:
        """Return the previewer of a saved pipeline, whose event type may have changed since it was saved."""
        offered = await offered_event_types(self._catalog, connection, self._environment)
        out_schema = parse_schema(saved.definition.out_schema or "null")
        try:
            check_event_type(saved.event_type, out_schema, offered)
        except Unprocessable as error:
            rejected = Rejected("OutputValidation", error.code, error.message)
            return RequestPreviewer(saved, sink, redactor, self._clock, rejected)
        return RequestPreviewer(saved, sink, redactor, self._clock)


def read_limit(request: pb.TryPipelineRequest) -> int:
    """Return the maximum number of events. Raises BadRequest."""
    limit = request.limit if request.HasField("limit") else DEFAULT_EVENTS
    if not 1 <= limit <= MAX_EVENTS:
        raise BadRequest(f"limit must be in the range from 1 to {MAX_EVENTS}", field="limit")
    return limit


class RequestPreviewer:
    """Shows the requests of a pipeline that sends events, each with one event and without secrets."""

    def __init__(
        self, pipeline: Pipeline, sink: EventSink, redactor: Redactor, clock: Clock, rejected: Rejected | None = None
    ) -> None:
        """If the pipeline rejects every event, `rejected` is the reason."""
        self._event_type = pipeline.event_type
        self._keys = DeliveryKeys(pipeline.id)
        self._sink = sink
        self._redactor = redactor
        self._clock = clock
        self._rejected = rejected

    def preview(self, document: bytes, values: Record) -> TrialResult:
        """Return the result for an event with these values. Computes only."""
        event = SourceEvent(document)
        prepared = self._rejected
        if prepared is not None:
            return TrialResult("Failed", prepared.step, prepared.message)
        key = self._keys.of(event.event)
        encoded = encode_event(self._sink, event, self._event_type, key, values)
        if isinstance(encoded, Rejected):
            return TrialResult("Failed", encoded.step, encoded.message)
        try:
            request = self._sink.request([encoded], Attempt(key=key, number=1, at=self._clock.now()))
        except HeadwaterError as error:  # the settings allow no sending
            return TrialResult("Failed", "Finalize", error.message)
        return TrialResult("Passed", "Finalize", request=format_request(request, self._redactor))


async def _response(tried: TriedPipeline) -> pb.TryPipelineResponse:
    response = pb.TryPipelineResponse(stopped_by=tried.stopped_by)
    for number, event in enumerate(tried.events, 1):
        response.events.append(_event(event))
        match event.result.outcome:
            case "Passed":
                response.passed += 1
            case "Filtered":
                response.filtered += 1
            case _:
                response.failed += 1
        response.different += event.saved is not None
        if number % _YIELD_EVENTS == 0:
            await asyncio.sleep(0)
    return response


def _event(tried: TriedEvent) -> pb.TriedEvent:
    event = _decode_event(tried.document)
    message = pb.TriedEvent(
        connection=event.connection_id,
        message_id=event.message_id,
        type=event.type,
        event=event.event,
        result=_result(tried.result),
        saved=None if tried.saved is None else _result(tried.saved),
    )
    message.received_at.FromDatetime(event.received_at)
    return message


def _result(result: TrialResult) -> pb.TrialResult:
    return pb.TrialResult(
        outcome=result.outcome,
        step=result.step,
        message=result.message,
        condition=None if result.condition is None else explanation_message(result.condition),
        output_json=None if result.output is None else result.output.decode(),
        request=result.request,
    )
