"""FilterService and SchemaService: filters as text, evaluating one on an event, and the event schemas."""

import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from headwater.schemas import EVENT_SCHEMA, serialise
from headwater.v1 import filters_pb2 as pb
from headwater.v1 import schemas_pb2
from tests.api.conftest import Api, CallError

TEXT = 'type is "track" and event is "Order Completed"'
EVENT = {"type": "track", "event": "Refunded", "context": {"ip": "1.2.3.4", "library": {"beta": 1}}, "_metadata": {}}


async def test_a_text_becomes_a_filter(api: Api) -> None:
    response: Any = await api.call("FilterService/ParseFilter", pb.ParseFilterRequest(text=TEXT))
    assert response.filter.logical == "and"
    assert [(one.property, one.operator, list(one.values)) for one in response.filter.conditions] == [
        ("type", "is", ["track"]),
        ("event", "is", ["Order Completed"]),
    ]


@pytest.mark.parametrize("text", ["type", 'type is "a" or', 'type is "a" and event is "b" or name is "c"', "\0"])
async def test_an_invalid_filter_is_400(api: Api, text: str) -> None:
    response: Any = await api.call("FilterService/ParseFilter", pb.ParseFilterRequest(text=text))
    assert isinstance(response, CallError)
    assert (response.status, response.reason) == ("INVALID_ARGUMENT", "BadRequest")


async def test_rest_and_grpc_explain_which_condition_decided(api: Api) -> None:
    parsed: Any = await api.call("FilterService/ParseFilter", pb.ParseFilterRequest(text=TEXT))
    typed: Any = await api.call(
        "FilterService/ExplainFilter", pb.ExplainFilterRequest(filter=parsed.filter, event_json=json.dumps(EVENT))
    )
    filter_ = {
        "logical": "and",
        "conditions": [
            {"property": "type", "operator": "is", "values": ["track"]},
            {"property": "event", "operator": "is", "values": ["Order Completed"]},
        ],
    }
    body = json.dumps({"filter": filter_, "event": EVENT}).encode()
    raw: Any = await api.call("rest.FilterService/ExplainFilter", HttpBody(data=body))
    assert typed == raw
    assert not typed.matched
    assert [(one.result, one.decided, one.value_json) for one in typed.conditions] == [
        (True, False, '"track"'),
        (False, True, '"Refunded"'),
    ]


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"filter":null,"event":{}}', b'{"filter":{},"event":{}}'])
async def test_an_invalid_request_is_400(api: Api, body: bytes) -> None:
    response: Any = await api.call("rest.FilterService/ExplainFilter", HttpBody(data=body))
    assert isinstance(response, CallError)
    assert response.reason == "BadRequest"


async def test_the_event_schema_is_that_of_filters(api: Api) -> None:
    response: Any = await api.call("SchemaService/GetEventSchema", schemas_pb2.GetEventSchemaRequest())
    names = [property_["name"] for property_ in json.loads(serialise(EVENT_SCHEMA))["properties"]]
    assert [property_.name for property_ in response.properties] == names
