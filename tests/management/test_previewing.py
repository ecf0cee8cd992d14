"""Previews: the request is the one that a delivery sends, whatever the destination, and shows no secret."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.errors import BadRequest, HeadwaterError
from headwater.catalog import Catalog, Connection, TransformationDefinition
from headwater.connectors.contract import Attempt, EncodedEvent, Engine
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.redaction import Redactor, format_request
from headwater.connectors.registry import CONNECTORS
from headwater.delivery.preparing import MappingTransformation, Preparer, SourceEvent
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.previewing import (
    NO_PIPELINE,
    PreviewRequest,
    Transformed,
    begin_preview,
    show_request,
)
from headwater.schemas import parse_schema
from tests.connectors.axes import DESTINATIONS, AxesSettings, AxesSink, Destination
from tests.connectors.conformance.context import NOW, FixedClock, make_context
from tests.previews import preview_body, preview_event

TOKEN = "tok/en+1234567"
ENVIRONMENT = ConnectorEnvironment(clock=FixedClock())
EVENT = json.dumps(preview_event()).encode()


def transformed(text: bytes = EVENT, type_: str = "track") -> Transformed:
    begun = begin_preview(PreviewRequest(type=type_, event=text, transformation=None, out_schema=None), "owner")
    assert isinstance(begun, Transformed)
    return begun


async def connected(catalog: Catalog, workspace: int, destination: Destination) -> Connection:
    """Return a connection to the destination."""
    dummy = CONNECTORS["dummy"]
    assert dummy.destination is not None
    connectors: Any = catalog.connectors
    connectors["dummy"] = msgspec.structs.replace(
        dummy,
        engine=Engine(event_sink=lambda settings, context: AxesSink(destination, settings, context)),
        destination=msgspec.structs.replace(dummy.destination, settings=AxesSettings),
    )
    request = CreateConnection(name="x", role="Destination", connector="dummy", settings={"token": TOKEN})
    return await create_connection(catalog, workspace, request)


@pytest.mark.parametrize("destination", DESTINATIONS, ids=lambda destination: destination.name)
async def test_the_request_is_that_of_a_delivery(catalog: Catalog, workspace: int, destination: Destination) -> None:
    connection = await connected(catalog, workspace, destination)
    shown = await show_request(catalog, connection, transformed(), ENVIRONMENT)
    assert TOKEN not in shown
    if not destination.signed:
        assert "Authorization: [REDACTED]\r\n" in shown
    sink = AxesSink(destination, AxesSettings(token=TOKEN), make_context())
    sink.policy = msgspec.structs.replace(sink.policy, max_age_seconds=None)
    source = SourceEvent(transformed().document)
    preparer = Preparer(NO_PIPELINE, "track", sink, MappingTransformation(None), FixedClock())
    [encoded] = await preparer.prepare([source])
    assert isinstance(encoded, EncodedEvent)
    request = sink.request([encoded], Attempt(key=preparer.key(source), number=1, at=NOW))
    assert shown == format_request(request, Redactor([TOKEN]))


async def test_an_old_event_can_be_shown(catalog: Catalog, workspace: int) -> None:
    """A delivery would be rejected for its age, which says nothing about the transformation."""
    connection = await connected(catalog, workspace, next(each for each in DESTINATIONS if each.name == "meta"))
    text = json.dumps(preview_event(timestamp="2001-01-01T00:00:00Z")).encode()
    assert "2001-01-01" in await show_request(catalog, connection, transformed(text), ENVIRONMENT)


async def test_a_rejection_by_the_connector_has_its_text(catalog: Catalog, workspace: int) -> None:
    connection = await connected(catalog, workspace, DESTINATIONS[0])
    text = json.dumps(preview_event(userId="null", anonymousId=f"x{TOKEN}")).encode()
    with pytest.raises(HeadwaterError, match="event is not valid: the event has no user") as caught:
        await show_request(catalog, connection, transformed(text), ENVIRONMENT)
    assert (caught.value.status, caught.value.code) == (422, "InvalidEvent")


_NAMES = [
    "type",
    "messageId",
    "context",
    "properties",
    "traits",
    "timestamp",
    "integrations",
    "objectTypeId",
    "kpid",
    "x",
]
_VALUES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.text(max_size=3),
    st.sampled_from(["track", "2025-10-20T16:15:24.340123456+02:00", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"]),
    st.integers(),
    st.lists(st.integers(), max_size=1),
    st.sampled_from(
        [{"page": {"url": "u"}}, {"ip": "::1"}, {"screen": {"density": 1.25}}, {"session": {"id": "7"}}, {}]
    ),
)


@given(st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=3))
def test_an_event_is_either_not_valid_or_becomes_a_canonical_one(members: dict[str, Any]) -> None:
    try:
        document = transformed(json.dumps(preview_event(**members)).encode()).document
    except BadRequest as error:
        assert error.field is not None and error.field.startswith("event")
        return
    assert transformed(document).document == document
    assert json.loads(document)["messageId"] == SourceEvent(document).event.message_id


def test_integrations_of_a_stored_event_are_kept() -> None:
    text = json.dumps(preview_event(integrations={"All": False}, objectTypeId="1", kpid=None)).encode()
    text = text.replace(b', "kpid": null', b"")
    document = json.loads(transformed(text).document)
    assert (document["integrations"], document["objectTypeId"]) == ({"All": False}, "1")


def test_an_event_type_takes_values_of_its_schema() -> None:
    body = preview_body()
    request = PreviewRequest(
        type="addToCart",
        event=EVENT,
        transformation=TransformationDefinition(mapping=body["transformation"]["mapping"]),
        out_schema=parse_schema(json.dumps(body["outSchema"])),
    )
    begun = begin_preview(request, "owner")
    assert isinstance(begun, Transformed)
    assert json.loads(begun.values) == {"eventName": body["event"]["event"], "attributes": body["event"]["properties"]}
