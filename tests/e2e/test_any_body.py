"""Any body, on every route of the intake: never a 500, and accepted events can be read.

HEADWATER_EXAMPLES sets the number of bodies for each protocol.
"""

import json
import os
from collections.abc import Iterator
from typing import Any, Final

import grpc
import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.v1 import events_pb2 as pb
from headwater.v1 import events_pb2_grpc
from tests.e2e.routes import CLIENT, NATIVE, TRACK, Route
from tests.e2e.source import Source, get, make_source
from tests.e2e.stored import wait_until_processed
from tests.system import RunningSystem

EXAMPLES: Final = int(os.environ.get("HEADWATER_EXAMPLES", "60"))
GIVEN = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ERROR_STATUSES: Final = {400, 401, 413, 422}
GRPC_REFUSALS: Final = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED}

TEXTS = st.text(max_size=20) | st.sampled_from(["", "\0", "\ud800", "2026-02-30T25:61:61Z", "1e999", "x" * 1_001, "💥"])
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63) - 1, 10**400, 1e308, -0.0])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=12,
)
MEMBERS: Final = (
    *("type", "userId", "anonymousId", "previousId", "groupId", "event", "name", "category", "messageId", "writeKey"),
    *("traits", "properties", "context", "integrations", "timestamp", "sentAt", "originalTimestamp", "batch"),
    *("connectionId", "objectTypeId", "channel", "external_id", "anonymous_id", "data", "user", "email", "phone"),
    *("timezone", "locale", "device_id", "token", "os", "os_version", "model", "app_build", "app_version"),
)
CONTEXT: Final = (
    *("app", "browser", "campaign", "device", "ip", "library", "locale", "location", "network", "os", "page"),
    *("referrer", "screen", "session", "timezone", "userAgent", "consent", "traits", "groupId", "sessionId"),
)


@st.composite
def nearly(draw: st.DrawFn, route: Route) -> Any:
    """Return a body that the route accepts, or one with some invalid members."""
    body = json.loads(route.content())
    events = body if isinstance(body, list) else body.get("batch", [body])
    for event in [*events, body] if isinstance(body, dict) else events:
        event.update(draw(st.dictionaries(st.sampled_from(MEMBERS), JSON, max_size=3)))
        if draw(st.booleans()):
            event["context"] = draw(st.dictionaries(st.sampled_from(CONTEXT), JSON, max_size=3))
        for name in draw(st.sets(st.sampled_from(sorted(event)), max_size=1)):
            del event[name]
    return body


def bodies(routes: list[Route]) -> st.SearchStrategy[tuple[Route, bytes]]:
    def of(route: Route) -> st.SearchStrategy[tuple[Route, bytes]]:
        texts = (nearly(route) | JSON).map(lambda body: json.dumps(body).encode())
        return st.tuples(st.just(route), texts | st.binary(max_size=100))

    return st.sampled_from(routes).flatmap(of)


@pytest.fixture(scope="module")
def source(system: RunningSystem) -> Source:
    return make_source(system)


@pytest.fixture(scope="module")
def client(system: RunningSystem) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.base_url, timeout=15) as client:
        yield client


def has_response(client: httpx.Client, source: Source, route: Route, body: bytes) -> bool:
    response = client.post(route.path, content=body, headers=route.headers_for(source))
    return response.status_code in {route.accepted, *ERROR_STATUSES}


@GIVEN
@given(sent=bodies(TRACK))
def test_any_body_of_the_track_api_has_a_response(
    client: httpx.Client, source: Source, sent: tuple[Route, bytes]
) -> None:
    assert has_response(client, source, *sent)


@GIVEN
@given(sent=bodies(NATIVE))
def test_any_body_of_the_native_api_has_a_response(
    client: httpx.Client, source: Source, sent: tuple[Route, bytes]
) -> None:
    assert has_response(client, source, *sent)


@GIVEN
@given(sent=bodies(CLIENT))
def test_any_body_of_the_client_api_has_a_response(
    client: httpx.Client, source: Source, sent: tuple[Route, bytes]
) -> None:
    assert has_response(client, source, *sent)


WRITTEN = st.text(st.characters(exclude_categories=["Cs"]), max_size=20) | st.sampled_from(
    ["{}", "[", "\0", '{"a":1e999}']
)


@st.composite
def messages(draw: st.DrawFn) -> pb.Event:
    """Return a typed event with any texts."""
    event = pb.Event(type=draw(st.sampled_from(["track", "identify", "page", "screen", "group", "alias", "", "x"])))
    for field in ("user_id", "anonymous_id", "previous_id", "group_id", "event", "name", "message_id", "channel"):
        if draw(st.booleans()):
            setattr(event, field, draw(WRITTEN))
    for field in ("properties_json", "traits_json", "integrations_json", "extra_json"):
        if draw(st.booleans()):
            setattr(event, field, draw(WRITTEN | JSON.map(json.dumps)))
    if draw(st.booleans()):
        event.timestamp.seconds = draw(st.integers(-(2**63), 2**63 - 1))
        event.timestamp.nanos = draw(st.integers(-(2**31), 2**31 - 1))
    if draw(st.booleans()):
        event.context.ip = draw(WRITTEN)
        event.context.extra_json = draw(WRITTEN)
        event.context.screen.width = draw(st.integers(-(2**31), 2**31 - 1))
        event.context.location.latitude = draw(st.floats())
    return event


@GIVEN
@given(events=st.lists(messages(), max_size=3))
def test_any_typed_event_has_a_response(source: Source, events: list[pb.Event]) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{source.system.port}") as channel:
        stub = events_pb2_grpc.EventServiceStub(channel)
        metadata = (("authorization", f"Bearer {source.write_key}"),)
        try:
            response = stub.SendEvents(pb.SendEventsRequest(events=events), metadata=metadata, timeout=15)
            assert response.accepted + len(response.rejected) == len(events)
        except grpc.RpcError as error:
            assert error.code() in GRPC_REFUSALS, error


def test_accepted_events_can_be_read(source: Source) -> None:
    wait_until_processed(source)
    counts = get(source.system, "/v1/events/rejected/counts")["counts"]
    assert "InternalServerError" not in {count["code"] for count in counts}
