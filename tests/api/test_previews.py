"""Previews of events over REST and gRPC: the documented example, and every documented error."""

import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import json_format
from msgspec import Raw

from headwater.api.messages.events import event_message
from headwater.events.raw import members
from headwater.rest.v1 import applications_pb2 as rest_pb
from headwater.v1 import applications_pb2 as pb
from headwater.v1 import connections_pb2
from tests.api.conftest import Api, CallError
from tests.previews import PRINTED_BODY, find_schema, preview_body, preview_event

PREVIEW, PREVIEW_JSON = "ApplicationService/PreviewSendEvent", "rest.ApplicationService/PreviewSendEvent"
URL = "https://receiver.example/events"
PYTHON = 'def transform(event):\n    return {"eventName": event["event"]}'


async def create(api: Api, **changes: Any) -> int:
    request = connections_pb2.CreateConnectionRequest(name="Dummy", role="Destination", connector="dummy")
    request.settings["urlForDispatchingEvents"] = URL
    for name, value in changes.items():
        setattr(request, name, value)
    return int((await api.call("ConnectionService/CreateConnection", request)).id)


async def preview(api: Api, id_: int, body: dict[str, Any] | str) -> Any:
    """Return the text of the preview, or the error."""
    text = body if isinstance(body, str) else json.dumps(body)
    response = await api.call(PREVIEW_JSON, rest_pb.PreviewSendEventRequest(id=id_, body=HttpBody(data=text.encode())))
    return response if isinstance(response, CallError) else response.preview


def typed(id_: int, body: dict[str, Any]) -> pb.PreviewSendEventRequest:
    request = pb.PreviewSendEventRequest(id=id_, type=body["type"])
    request.event.CopyFrom(event_message(members(Raw(json.dumps(body["event"]).encode()))))
    json_format.ParseDict(body["transformation"], request.transformation)
    json_format.ParseDict(body["outSchema"], request.out_schema)
    return request


async def test_the_documented_example_is_shown(api: Api) -> None:
    shown = await preview(api, await create(api), PRINTED_BODY)
    head, _, text = shown.partition("\n\n")
    key = next(line for line in head.splitlines() if line.startswith("Idempotency-Key: "))
    assert head == f"POST {URL}\nContent-Type: application/json\r\n{key}\r"
    [event] = json.loads(text)["events"]
    assert (event["type"], event["id"]) == ("addToCart", key.removeprefix("Idempotency-Key: "))
    given = preview_body()["event"]
    times = {name: value.replace("Z", "000Z") for name, value in given.items() if str(value).startswith("2025-")}
    assert event["values"] == {"eventName": "Workout Completed", "attributes": given["properties"]}
    assert event["event"] == {**given, **times, "traits": {}}
    assert text == json.dumps(json.loads(text), indent=2), "the body is indented"


async def test_both_interfaces_show_the_same(api: Api) -> None:
    id_ = await create(api)
    response = await api.call(PREVIEW, typed(id_, preview_body()))
    shown = await preview(api, id_, PRINTED_BODY)
    assert response.preview == shown.replace('"density": 2\n', '"density": 2.0\n'), "a typed number is a double"


async def test_every_digit_is_kept(api: Api) -> None:
    event = json.dumps(preview_event(properties={"price": "PRICE"})).replace('"PRICE"', "1.50000000000000000001e2")
    body = json.dumps(preview_body(event="EVENT")).replace('"EVENT"', event)
    assert (await preview(api, await create(api), body)).count("1.50000000000000000001e2") == 2


@pytest.mark.parametrize("transformation", [None, {"mapping": None, "function": None}])
async def test_an_event_type_without_schema_takes_no_transformation(api: Api, transformation: Any) -> None:
    id_ = await create(api)
    body = preview_body(type="send_event_with_no_schema", transformation=transformation, outSchema=None)
    shown = await preview(api, id_, body)
    assert json.loads(shown.partition("\n\n")[2])["events"][0]["values"] == {}
    body = preview_body(type="send_event_with_no_schema")
    assert (await preview(api, id_, body)).reason == "SchemaNotAligned"


@pytest.mark.process
async def test_a_function_receives_the_event(api: Api) -> None:
    id_ = await create(api)
    schema = find_schema(eventName="string")
    body = preview_body(transformation={"function": {"source": PYTHON, "language": "Python"}}, outSchema=schema)
    shown = await preview(api, id_, body)
    assert json.loads(shown.partition("\n\n")[2])["events"][0]["values"] == {"eventName": "Workout Completed"}
    for source, part in ((PYTHON.replace("event[", "nothing["), "nothing"), ("def f(): 1", "transform")):
        body["transformation"]["function"]["source"] = source
        failed = await preview(api, id_, body)
        assert failed.reason == "TransformationFailed"
        assert part in failed.message


EMAIL = {"kind": "object", "properties": [{"name": "email", "type": {"kind": "string"}, "createRequired": True}]}
FUNCTION = {"source": PYTHON, "language": "Python"}


@pytest.mark.parametrize(
    ("changes", "reason", "field"),
    [
        ({"type": ""}, "BadRequest", "type"),
        ({"type": "x" * 101}, "BadRequest", "type"),
        ({"event": None}, "BadRequest", "event"),
        ({"event": 5}, "BadRequest", "event"),
        ({"event": preview_event(unknown=1)}, "BadRequest", "event.unknown"),
        ({"event": preview_event(messageId=...)}, "BadRequest", "event.messageId"),
        ({"event": preview_event(receivedAt="yesterday")}, "BadRequest", "event.receivedAt"),
        (
            {"event": preview_event(context={"session": {"id": 1766272512048}})},
            "BadRequest",
            "event.context.session.id",
        ),
        ({"event": preview_event(type="order")}, "BadRequest", "event.type"),
        ({"transformation": {"mapping": {"eventName": "event"}, "function": FUNCTION}}, "BadRequest", "transformation"),
        ({"transformation": {"mapping": {}}}, "BadRequest", "transformation.mapping"),
        ({"transformation": {"mapping": {"eventName": "evnt"}}}, "BadRequest", "transformation.mapping"),
        ({"transformation": {"mapping": {"title": "event"}}}, "BadRequest", "transformation.mapping"),
        ({"transformation": {"function": {**FUNCTION, "source": ""}}}, "BadRequest", "transformation.function.source"),
        (
            {"transformation": {"function": {**FUNCTION, "language": "Go"}}},
            "BadRequest",
            "transformation.function.language",
        ),
        ({"outSchema": None}, "BadRequest", "outSchema"),
        ({"outSchema": {"kind": "string"}}, "BadRequest", "outSchema.kind"),
        ({"transformation": None}, "BadRequest", "outSchema"),
        ({"transformation": {"mapping": {"eventName": "properties"}}}, "TransformationFailed", None),
        ({"type": "removeFromCart"}, "EventTypeNotExist", "type"),
        ({"outSchema": find_schema(eventName="string", attributes="json")}, "SchemaNotAligned", "outSchema"),
        ({"type": "send_add_to_cart"}, "SchemaNotAligned", "outSchema"),
        ({"type": "send_add_to_cart", "transformation": None, "outSchema": None}, "SchemaNotAligned", "outSchema"),
        (
            {"type": "send_add_to_cart", "transformation": {"mapping": {"email": "traits.email"}}, "outSchema": EMAIL},
            "TransformationFailed",
            None,
        ),
        ({"event": preview_event(properties={"note": "x" * 70_000})}, "InvalidEvent", "event"),
    ],
)
async def test_documented_errors(api: Api, changes: dict[str, Any], reason: str, field: str | None) -> None:
    failed = await preview(api, await create(api), preview_body(**changes))
    assert isinstance(failed, CallError), failed
    assert (failed.reason, dict(failed.metadata).get("field")) == (reason, field), failed.message


@pytest.mark.parametrize("body", ["", "{", "[]", '{"type":5}', '{"type":"addToCart","outSchema":{"kind":"x"}}'])
async def test_other_bodies_are_rejected(api: Api, body: str) -> None:
    assert (await preview(api, await create(api), body)).reason == "BadRequest"


async def test_only_destinations_of_events_show_previews(api: Api) -> None:
    source = await create(api, role="Source")
    assert (await preview(api, source, PRINTED_BODY)).reason == "BadRequest"
    assert (await preview(api, 2**31 - 1, "{")).reason == "NotFound"
    assert (await api.call(PREVIEW, typed(2**31 - 1, preview_body()))).reason == "NotFound"


async def test_an_application_that_cannot_send_is_unavailable(api: Api) -> None:
    request = connections_pb2.CreateConnectionRequest(name="Dummy", role="Destination", connector="dummy")
    id_ = (await api.call("ConnectionService/CreateConnection", request)).id
    assert (await preview(api, id_, PRINTED_BODY)).reason == "ServiceUnavailable"
