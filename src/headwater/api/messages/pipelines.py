"""Pipelines ⇄ messages: what a request defines, and how a pipeline is shown."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from headwater.api.messages.schema import filter_message, read_member_schema, read_object, to_filter, type_message
from headwater.base.errors import BadRequest
from headwater.catalog import (
    Connection,
    Definition,
    FunctionDefinition,
    Matching,
    Pipeline,
    TransformationDefinition,
)
from headwater.connectors.connector import Connector
from headwater.filters import Filter, parse_json
from headwater.management.pipelines import INCOMING_EVENT_SCHEMA, CreatePipeline, UpdatePipeline, find_kind
from headwater.schemas import parse_schema
from headwater.v1 import filters_pb2, pipelines_pb2, schemas_pb2, transformations_pb2

Request = pipelines_pb2.CreatePipelineRequest | pipelines_pb2.UpdatePipelineRequest

_TEXTS: Final = (
    "query",
    "format",
    "path",
    "sheet",
    "compression",
    "order_by",
    "user_id_column",
    "updated_at_column",
    "updated_at_format",
    "export_mode",
    "table_name",
    "table_key",
)
_FLAGS: Final = ("incremental", "update_on_duplicates")
_NULLABLE_TEXTS: Final = ("sheet", "updated_at_column", "updated_at_format")
"""Members that are null, and so absent, when they are empty."""

_EVENT_SCHEMA_MESSAGE: Final = type_message(INCOMING_EVENT_SCHEMA)


def create_header(request: pipelines_pb2.CreatePipelineRequest) -> CreatePipeline:
    """Return a create request without the definition."""
    return CreatePipeline(
        connection=request.connection,
        target=request.target,
        event_type=request.event_type,
        name=request.name,
        enabled=request.enabled,
    )


def update_header(request: pipelines_pb2.UpdatePipelineRequest) -> UpdatePipeline:
    """Return an update request without the definition."""
    return UpdatePipeline(name=request.name, enabled=request.enabled)


def read_create(request: pipelines_pb2.CreatePipelineRequest) -> CreatePipeline:
    """Return a create request."""
    return CreatePipeline(
        connection=request.connection,
        target=request.target,
        event_type=request.event_type,
        name=request.name,
        enabled=request.enabled,
        filter=_filter(request),
        in_schema=read_member_schema(request, "in_schema", "inSchema"),
        out_schema=read_member_schema(request, "out_schema", "outSchema"),
        definition=_definition(request),
    )


def suggestion_message(request: CreatePipeline) -> pipelines_pb2.PipelineSuggestion:
    """Return the message of a suggested pipeline."""
    message = pipelines_pb2.PipelineSuggestion(
        connection=request.connection, target=request.target, name=request.name, enabled=request.enabled
    )
    if request.event_type:
        message.event_type = request.event_type
    if request.filter is not None:
        message.filter.CopyFrom(filter_message(request.filter))
    if request.in_schema is not None:
        message.in_schema.CopyFrom(type_message(request.in_schema))
    if request.out_schema is not None:
        message.out_schema.CopyFrom(type_message(request.out_schema))
    definition = request.definition
    if definition.transformation is not None:
        message.transformation.CopyFrom(_transformation_message(definition.transformation))
    if definition.matching is not None:
        message.matching.input, message.matching.output = definition.matching.input, definition.matching.output
    if definition.export_mode:
        message.export_mode = definition.export_mode
    return message


def read_update(request: pipelines_pb2.UpdatePipelineRequest) -> UpdatePipeline:
    """Return an update request."""
    return UpdatePipeline(
        name=request.name,
        enabled=request.enabled,
        filter=_filter(request),
        in_schema=read_member_schema(request, "in_schema", "inSchema"),
        out_schema=read_member_schema(request, "out_schema", "outSchema"),
        definition=_definition(request),
    )


def pipeline_message(
    pipeline: Pipeline, connection: Connection, connectors: Mapping[str, Connector]
) -> pipelines_pb2.Pipeline:
    """The pipeline as it is shown, alone or inside its connection: with the members that its kind has."""
    connector_type = connectors[connection.connector].type
    message = pipelines_pb2.Pipeline(
        id=pipeline.id,
        name=pipeline.name,
        connector=connection.connector,
        connector_type=connector_type,
        connection=connection.id,
        connection_role=connection.role,
        target=pipeline.target,
        enabled=pipeline.enabled,
    )
    kind = find_kind(connection.role, connector_type, pipeline.target)
    assert kind is not None, "a pipeline was made of one of the kinds"
    shown = pipeline.definition
    for field in pipelines_pb2.Pipeline.DESCRIPTOR.fields:
        if field.json_name not in kind.shown:
            continue
        match field.name:
            case "filter" if shown.filter is not None:
                message.filter.CopyFrom(_filter_message(shown.filter))
            case "in_schema" if kind.reads_events:
                message.in_schema.CopyFrom(_EVENT_SCHEMA_MESSAGE)
            case "in_schema" if shown.in_schema is not None:
                message.in_schema.CopyFrom(_schema_message(shown.in_schema))
            case "out_schema" if shown.out_schema is not None:
                message.out_schema.CopyFrom(_schema_message(shown.out_schema))
            case "transformation" if shown.transformation is not None:
                message.transformation.CopyFrom(_transformation_message(shown.transformation))
            case "matching" if shown.matching is not None:
                message.matching.input, message.matching.output = shown.matching.input, shown.matching.output
            case "event_type":
                message.event_type = pipeline.event_type
            case "running":
                message.running = False
            case "schedule_period" if pipeline.schedule_period is not None:
                message.schedule_period = pipeline.schedule_period
                message.schedule_start = pipeline.schedule_start or 0
            case name if name in _FLAGS:
                setattr(message, name, getattr(shown, name))
            case name if name in _TEXTS and (getattr(shown, name) or name not in _NULLABLE_TEXTS):
                setattr(message, name, getattr(shown, name))
    return message


def _definition(request: Request) -> Definition:
    texts: dict[str, Any] = {name: getattr(request, name) for name in (*_TEXTS, *_FLAGS)}
    return Definition(
        **texts,
        format_settings=(read_object(request.format_settings) if request.HasField("format_settings") else None),
        matching=(
            Matching(request.matching.input, request.matching.output)
            if request.matching.input or request.matching.output
            else None
        ),
        transformation=read_transformation(request.transformation) if request.HasField("transformation") else None,
    )


def _filter(request: Request) -> Filter | None:
    if not request.HasField("filter"):
        return None
    return to_filter(request.filter)


def read_transformation(message: transformations_pb2.Transformation) -> TransformationDefinition:
    """The transformation that a message says."""
    mapping: dict[str, str] | None = None
    if message.HasField("mapping"):
        mapping = {}
        for path, expression in read_object(message.mapping).items():
            if not isinstance(expression, str):
                field = f"transformation.mapping.{path}"
                raise BadRequest(f"{field} must be an expression, as a string", field=field)
            mapping[path] = expression
    function: FunctionDefinition | None = None
    if message.HasField("function"):
        function = FunctionDefinition(
            language=message.function.language,
            source=message.function.source,
            preserve_json=message.function.preserve_json,
            in_paths=tuple(message.function.in_paths),
            out_paths=tuple(message.function.out_paths),
        )
    return TransformationDefinition(mapping=mapping, function=function)


def _transformation_message(shown: TransformationDefinition) -> transformations_pb2.Transformation:
    message = transformations_pb2.Transformation()
    if shown.mapping is not None:
        message.mapping.update(shown.mapping)
    if shown.function is not None:
        message.function.language = shown.function.language
        message.function.source = shown.function.source
        message.function.preserve_json = shown.function.preserve_json
        message.function.in_paths.extend(shown.function.in_paths)
        message.function.out_paths.extend(shown.function.out_paths)
    return message


# Documents never change once they are made, and a list shows the same ones again and again.


@lru_cache(maxsize=4096)
def _schema_message(text: str) -> schemas_pb2.DataType:
    schema = parse_schema(text)
    assert schema is not None, "a definition without a schema has none, not null"
    return type_message(schema)


@lru_cache(maxsize=4096)
def _filter_message(text: str) -> filters_pb2.Filter:
    found = parse_json(text)
    assert found is not None, "a definition without a filter has none, not null"
    return filter_message(found)
