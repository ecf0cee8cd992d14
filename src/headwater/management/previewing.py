"""Shows the request with which an event would be sent to an application, without sending it.

The event is prepared by the code that deliveries use. `begin_preview` and `end_preview` are pure, so that they can run
in another process; between them, the program of a function runs in a sandbox.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import msgspec
from msgspec import Raw

from headwater.base.clock import Clock
from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import Catalog, Connection, FunctionDefinition, TransformationDefinition
from headwater.connectors.contract import Attempt, EventSink, EventType
from headwater.connectors.environment import DEFAULT_ENVIRONMENT, ConnectorEnvironment
from headwater.connectors.redaction import Redactor, format_request
from headwater.delivery.preparing import (
    DeliveryKeys,
    Rejected,
    SourceEvent,
    check_event_type,
    encode_event,
    map_event,
)
from headwater.events.event import encode_event as encode_document
from headwater.events.raw import members
from headwater.management.applications import ask, event_sink
from headwater.management.bounds import check_expressions
from headwater.schemas import (
    EVENT_SCHEMA,
    Codec,
    DateTime,
    InvalidValue,
    JsonType,
    ObjectType,
    Property,
    Record,
    Schema,
    StringType,
    all_optional,
    check_size,
)
from headwater.transforms.functions import (
    LANGUAGES,
    MAX_SOURCE_LENGTH,
    Function,
    Prepared,
    RecordError,
    RunOutput,
    outcomes,
    prepare,
)
from headwater.transforms.mapping import CompiledMapping, InvalidMapping

MAX_TYPE_CHARACTERS: Final = 100
NO_PIPELINE: Final = 0
"""The pipeline whose idempotency keys are shown."""

_EVENT_SCHEMA: Final = ObjectType(
    (
        *(replace(each, read_optional=each.read_optional or each.name == "traits") for each in EVENT_SCHEMA),
        Property("integrations", JsonType(), read_optional=True),
        Property("objectTypeId", StringType(), read_optional=True),
    )
)
"""The event schema, and the other members of stored events. `traits` may be missing, as in the documentation."""
_EVENT_CODEC: Final = Codec(_EVENT_SCHEMA)
_encode: Final = msgspec.json.Encoder().encode


class PreviewRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The event and its transformation; an absent member is None or empty. `event` is JSON."""

    type: str
    event: bytes | None
    transformation: TransformationDefinition | None
    out_schema: Schema | None


class Transformed(msgspec.Struct, frozen=True, kw_only=True):
    """The event as a canonical document, and its values as JSON of `out_schema`. All properties may be missing."""

    type: str
    document: bytes
    out_schema: Schema | None
    values: bytes


def begin_preview(request: PreviewRequest, owner: str) -> Transformed | Prepared:
    """Return the event with the values of its mapping, or the prepared program of its function.

    Raises BadRequest for a request that is not valid, and Unprocessable with UnsupportedLanguage or
    TransformationFailed.
    """
    _check_request(request)
    event = SourceEvent(_read_event(request.event))
    out_schema, transformation = _checked_transformation(request)
    if transformation is None or out_schema is None:
        return _transformed(request, event, {})
    if transformation.function is not None:
        function = _function(transformation.function, out_schema, owner)
        return prepare(function, [event.record], EVENT_SCHEMA, out_schema, "Create")
    expressions = transformation.mapping or {}
    if not expressions:
        raise BadRequest("transformation.mapping must not be empty", field="transformation.mapping")
    check_expressions(expressions.values(), "transformation.mapping")
    try:
        mapping = CompiledMapping(expressions, EVENT_SCHEMA, out_schema)
    except InvalidMapping as error:
        raise BadRequest(f"mapping is not valid: {error.message}", field="transformation.mapping") from error
    return _transformed(request, event, map_event(mapping, event))


def end_preview(request: PreviewRequest, owner: str, ran: RunOutput) -> Transformed:
    """Return the event with the values that its function returned. Raises Unprocessable with TransformationFailed."""
    out_schema, transformation = _checked_transformation(request)
    assert transformation is not None and transformation.function is not None and out_schema is not None
    function = _function(transformation.function, out_schema, owner)
    [outcome] = outcomes(function, ran, 1, EVENT_SCHEMA, out_schema, "Create")
    if isinstance(outcome, RecordError):
        where = "" if outcome.line is None else f" (line {outcome.line})"
        raise Unprocessable("TransformationFailed", f"{outcome.message}{where}")
    return _transformed(request, SourceEvent(_read_event(request.event)), outcome)


async def show_request(
    catalog: Catalog,
    connection: Connection,
    transformed: Transformed,
    environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT,
) -> str:
    """Return the request as text, without secrets.

    Raises Unprocessable with EventTypeNotExist, SchemaNotAligned or InvalidEvent, and Unavailable.
    """
    settings = catalog.decrypt_settings(connection)
    redactor = Redactor(() if settings is None else settings.secrets())
    show = partial(_show, transformed, redactor, environment.clock)
    return await ask(catalog, connection, environment, event_sink, show)


async def _show(transformed: Transformed, redactor: Redactor, clock: Clock, sink: EventSink) -> str:
    event_types = await sink.event_types()
    return await asyncio.to_thread(_format, transformed, redactor, clock, sink, event_types)


def _format(
    transformed: Transformed, redactor: Redactor, clock: Clock, sink: EventSink, event_types: Sequence[EventType]
) -> str:
    check_event_type(transformed.type, transformed.out_schema, event_types, member="type")
    event = SourceEvent(transformed.document)
    values: Record = {}
    if transformed.out_schema is not None:
        values = Codec(all_optional(transformed.out_schema)).decode(transformed.values, trusted=True)
    key = DeliveryKeys(NO_PIPELINE).of(event.event)
    encoded = encode_event(sink, event, transformed.type, key, values)
    if isinstance(encoded, Rejected):
        raise Unprocessable("InvalidEvent", redactor.redact(f"event is not valid: {encoded.message}"), field="event")
    request = sink.request([encoded], Attempt(key=key, number=1, at=clock.now()))
    return format_request(request, redactor)


def _check_request(request: PreviewRequest) -> None:
    if not request.type:
        raise BadRequest("type is required", field="type")
    if len(request.type) > MAX_TYPE_CHARACTERS:
        raise BadRequest(f"type must have at most {MAX_TYPE_CHARACTERS} characters", field="type")
    if request.event is None:
        raise BadRequest("event is required", field="event")
    given = request.transformation
    if given is not None and given.mapping is not None and given.function is not None:
        raise BadRequest("transformation must have either a mapping or a function", field="transformation")


def _read_event(text: bytes | None) -> bytes:
    """Return an event that is valid as a canonical document."""
    assert text is not None, "it is checked before"
    try:
        record = _EVENT_CODEC.decode(text)
    except InvalidValue as error:
        raise BadRequest(f"event is not valid: {error.message}", field=f"event.{error.path}".rstrip(".")) from error
    document = members(Raw(text))
    for name, value in record.items():
        if isinstance(value, DateTime):
            document[name] = Raw(_encode(value.json_text))
    document.setdefault("traits", Raw(b"{}"))
    return encode_document(SourceEvent(_encode(document)).event)


def _checked_transformation(request: PreviewRequest) -> tuple[Schema | None, TransformationDefinition | None]:
    """Return the output schema and the transformation, both or none."""
    transformation = request.transformation
    if transformation is not None and transformation.mapping is None and transformation.function is None:
        transformation = None
    if transformation is None:
        if request.out_schema is not None:
            raise BadRequest("outSchema is not allowed without a transformation", field="outSchema")
        return None, None
    if request.out_schema is None:
        raise BadRequest("a transformation needs outSchema", field="outSchema")
    check_size(request.out_schema, "outSchema")
    return request.out_schema, transformation


def _function(definition: FunctionDefinition, out_schema: Schema, owner: str) -> Function:
    """Return the function. Without paths it receives the whole event, and may return the whole schema."""
    where = "transformation.function"
    if not definition.source:
        raise BadRequest(f"{where}.source is required", field=f"{where}.source")
    if len(definition.source) > MAX_SOURCE_LENGTH:
        raise BadRequest(f"{where}.source is longer than {MAX_SOURCE_LENGTH} characters", field=f"{where}.source")
    if definition.language not in LANGUAGES:
        raise BadRequest(f"{where}.language must be {' or '.join(LANGUAGES)}", field=f"{where}.language")
    return msgspec.structs.replace(
        definition,
        in_paths=definition.in_paths or tuple(each.name for each in EVENT_SCHEMA),
        out_paths=definition.out_paths or tuple(each.name for each in out_schema),
    ).function(owner=owner)


def _transformed(request: PreviewRequest, event: SourceEvent, values: Record | Rejected) -> Transformed:
    if isinstance(values, Rejected):
        raise Unprocessable("TransformationFailed", values.message)
    out_schema, _ = _checked_transformation(request)
    try:
        text = b"{}" if out_schema is None else Codec(all_optional(out_schema)).encode(values)
    except InvalidValue as error:
        raise Unprocessable("TransformationFailed", f"the result does not fit outSchema: {error.message}") from error
    return Transformed(type=request.type, document=event.document, out_schema=out_schema, values=text)
