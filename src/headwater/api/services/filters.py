"""FilterService: reads filters written as text, and explains the result of a filter for an event."""

import msgspec
from google.api.httpbody_pb2 import HttpBody
from msgspec import Raw, Struct

from headwater.api.messages.schema import explanation_message, filter_message, to_filter
from headwater.api.offloop import compute, find_owner
from headwater.api.request import Context, authenticate
from headwater.base.computing import Computing
from headwater.base.errors import BadRequest
from headwater.catalog import Catalog
from headwater.events.record import document_record
from headwater.filters import Filter, check_filter, explain, parse_text, read_document
from headwater.rest.v1 import filters_pb2_grpc as rest_grpc
from headwater.schemas import EVENT_SCHEMA
from headwater.v1 import filters_pb2 as pb
from headwater.v1 import filters_pb2_grpc


class _Question(Struct):
    filter: Raw
    event: dict[str, Raw]


_decode_question = msgspec.json.Decoder(_Question).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


class FilterServicer(filters_pb2_grpc.FilterServiceServicer):
    """Parses and explains filters."""

    def __init__(self, catalog: Catalog, computing: Computing) -> None:
        self._catalog = catalog
        self._computing = computing

    async def ParseFilter(self, request: pb.ParseFilterRequest, context: Context) -> pb.ParseFilterResponse:
        owner = find_owner(await authenticate(self._catalog, context))
        return await compute(self._computing, owner, _parse, request)

    async def ExplainFilter(self, request: pb.ExplainFilterRequest, context: Context) -> pb.ExplainFilterResponse:
        owner = find_owner(await authenticate(self._catalog, context))
        return await compute(self._computing, owner, _explain_message, request)


class FilterRestServicer(rest_grpc.FilterServiceServicer):
    """Explains filters that come as raw JSON, so that numbers keep every digit."""

    def __init__(self, catalog: Catalog, computing: Computing) -> None:
        self._catalog = catalog
        self._computing = computing

    async def ExplainFilter(self, request: HttpBody, context: Context) -> pb.ExplainFilterResponse:
        owner = find_owner(await authenticate(self._catalog, context))
        return await compute(self._computing, owner, _explain_json, request)


def _parse(request: pb.ParseFilterRequest) -> pb.ParseFilterResponse:
    found = parse_text(request.text)
    return pb.ParseFilterResponse(filter=None if found is None else filter_message(found))


def _explain_message(request: pb.ExplainFilterRequest) -> pb.ExplainFilterResponse:
    if not request.HasField("filter"):
        raise BadRequest("filter is required", field="filter")
    try:
        event = _decode_members(request.event_json)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadRequest("eventJson must be a JSON object", field="eventJson") from error
    return _explain(to_filter(request.filter), event)


def _explain_json(request: HttpBody) -> pb.ExplainFilterResponse:
    try:
        question = _decode_question(request.data)
        filter_ = read_document(msgspec.json.decode(question.filter))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise BadRequest('the body must be a JSON object with "filter" and "event"') from error
    if filter_ is None:
        raise BadRequest("filter is required", field="filter")
    return _explain(filter_, question.event)


def _explain(filter_: Filter, event: dict[str, Raw]) -> pb.ExplainFilterResponse:
    # The rules of pipelines that collect events: a filter that is explained should be one that can be saved.
    checked = check_filter(filter_, EVENT_SCHEMA, role="Source", target="Event")
    explanation = explain(checked, document_record(event))
    return pb.ExplainFilterResponse(
        matched=explanation.matched,
        conditions=[explanation_message(outcome) for outcome in explanation.conditions],
    )
