"""From a connection to readable events, through real Envoy, over REST and gRPC on the same port."""

import asyncio
import base64
import gzip
import json
import uuid
from collections.abc import Iterator

import grpc
import pytest
from customerio.analytics import Client

from headwater.v1 import connections_pb2 as connections
from headwater.v1 import events_pb2 as events
from headwater.v1 import identities_pb2 as identities
from headwater.v1.connections_pb2_grpc import ConnectionServiceStub
from headwater.v1.events_pb2_grpc import EventServiceStub
from headwater.v1.identities_pb2_grpc import IdentityServiceStub
from tests.e2e.source import Source, get, make_source
from tests.system import HTTP, RunningSystem, wait_until


@pytest.fixture(params=["system", "postgresql_system"], ids=["sqlite", "postgresql"])
def running(request: pytest.FixtureRequest) -> RunningSystem:
    """Run every test of this file on both databases."""
    found: RunningSystem = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def source(running: RunningSystem) -> Source:
    return make_source(running)


@pytest.fixture
def channel(running: RunningSystem) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        yield channel


def test_a_connection_is_created_read_listed_and_deleted(running: RunningSystem) -> None:
    source = make_source(running, name="Checkout")
    connection = get(running, f"/v1/connections/{source.id}")
    listed = get(running, "/v1/connections")["connections"]
    assert connection in listed
    for pipeline in connection["pipelines"]:
        assert ("inSchema" in pipeline) == (pipeline["target"] == "User"), "what the pipeline reads are events"
        pipeline.pop("inSchema", None)
    assert connection == {
        "id": source.id,
        "name": "Checkout",
        "connector": "http",
        "connectorType": "SDK",
        "role": "Source",
        "linkedConnections": [],
        "eventTypes": [],
        "pipelines": sorted(
            (
                {
                    "id": id_,
                    "name": target,
                    "connector": "http",
                    "connectorType": "SDK",
                    "connection": source.id,
                    "connectionRole": "Source",
                    "target": target,
                    "enabled": True,
                }
                for id_, target in ((source.event_pipeline, "Event"), (source.user_pipeline, "User"))
            ),
            key=lambda pipeline: int(str(pipeline["id"])),
        ),
    }
    path = f"{running.base_url}/v1/connections/{source.id}"
    assert HTTP.delete(path, headers=running.authorization).status_code == 200
    assert HTTP.get(path, headers=running.authorization).status_code == 404
    assert HTTP.delete(path, headers=running.authorization).status_code == 404


@pytest.mark.parametrize("connector", ["javascript", "android", "ios"])
def test_client_side_sdks_have_a_strategy(running: RunningSystem, connector: str) -> None:
    source = make_source(running, connector=connector, strategy="Fusion")
    assert get(running, f"/v1/connections/{source.id}")["strategy"] == "Fusion"


def test_a_client_connection_has_a_public_key(running: RunningSystem) -> None:
    assert make_source(running, connector="client").write_key.startswith("pk_")


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("identify", {"userId": "u1", "traits": {"email": "a@b.c"}}),
        ("track", {"userId": "u1", "event": "Order Completed", "properties": {"total": 9.5}}),
        ("page", {"anonymousId": "a1", "name": "Home"}),
        ("screen", {"userId": "u1", "name": "Main"}),
        ("group", {"userId": "u1", "groupId": "g1", "traits": {"name": "Acme"}}),
        ("alias", {"userId": "u1", "previousId": "a1"}),
    ],
)
def test_each_call_stores_its_event(source: Source, call: str, body: dict[str, object]) -> None:
    response = source.send(call, {**body, "messageId": f"m-{call}"})
    assert (response.status_code, response.json()) == (200, {})
    [event] = source.wait_for(1)
    assert event["type"] == call
    assert event["messageId"] == f"m-{call}"
    assert body.items() <= event.items()


def test_the_write_key_is_read_from_every_place_of_sdks(running: RunningSystem, source: Source) -> None:
    key, url = source.write_key, f"{running.base_url}/v1"
    track: dict[str, object] = {"userId": "u1", "event": "E"}
    calls: list[tuple[str, dict[str, str], dict[str, object]]] = [
        ("track", {"authorization": f"Basic {base64.b64encode(f'{key}:'.encode()).decode()}"}, track),
        ("track", {"authorization": f"Basic {key}"}, track),
        ("track", {"authorization": f"Bearer {key}"}, track),
        ("track", {}, {**track, "writeKey": key}),
        ("batch", {}, {"writeKey": key, "batch": [{**track, "type": "track"}]}),
        ("batch", {}, {"batch": [{**track, "type": "track", "writeKey": key}]}),
    ]
    for call, headers, body in calls:
        assert HTTP.post(f"{url}/{call}", json=body, headers=headers).status_code == 200
    assert len(source.wait_for(len(calls))) == len(calls)


def test_a_repeated_message_is_stored_once(source: Source, channel: grpc.Channel) -> None:
    track = {"type": "track", "messageId": "m1", "userId": "u1", "event": "E"}
    source.send("batch", {"batch": [track, track]})
    source.send("track", track)
    EventServiceStub(channel).SendEvents(
        events.SendEventsRequest(events=[events.Event(type="track", message_id="m1", user_id="u1", event="E")]),
        metadata=(("authorization", f"Bearer {source.write_key}"),),
    )
    source.send("track", {**track, "messageId": "m2"})
    assert [event["messageId"] for event in source.wait_for(2)] == ["m1", "m2"]


def test_numbers_and_unknown_members_are_stored_unchanged(source: Source) -> None:
    body = b'{"userId":"u1","event":"E","properties":{"big":9007199254740993,"exact":1.10},"_metadata":{"v":1}}'
    response = HTTP.post(f"{source.system.base_url}/v1/track", content=body, auth=(source.write_key, ""))
    assert response.status_code == 200
    source.wait_for(1)
    url = f"{source.system.base_url}/v1/events?connection={source.id}"
    text = HTTP.get(url, headers=source.system.authorization).text
    assert '"properties":{"big":9007199254740993,"exact":1.10}' in text
    assert '"_metadata":{"v":1}' in text


def test_gzip_is_decompressed(source: Source) -> None:
    body = gzip.compress(json.dumps({"userId": "u1", "event": "E"}).encode())
    url = f"{source.system.base_url}/v1/track"
    headers = {"content-encoding": "gzip", "content-type": "application/x-www-form-urlencoded"}
    assert HTTP.post(url, content=body, auth=(source.write_key, ""), headers=headers).status_code == 200
    assert len(source.wait_for(1)) == 1


def test_events_create_identities(source: Source) -> None:
    source.send("page", {"anonymousId": "x", "name": "Home"})
    source.send("page", {"anonymousId": "y", "name": "Home"})
    source.send("identify", {"anonymousId": "x", "userId": "42", "traits": {"email": "a@x"}})
    source.send("identify", {"userId": None, "traits": {"email": "only@mail"}})
    source.wait_for(4)
    found = {(identity.get("userId"), tuple(identity["anonymousIds"])) for identity in source.identities()}
    assert found == {(None, ("y",)), ("42", ("x",)), ("only@mail", ())}
    assert {identity["pipeline"] for identity in source.identities()} == {source.user_pipeline}


def test_the_python_sdk_works_unchanged(source: Source) -> None:
    client = Client(source.write_key, host=source.system.base_url)
    client.identify(user_id="u1", traits={"email": "a@b.c"})
    client.track(user_id="u1", event="Order Completed", properties={"total": 9.5})
    client.page(user_id="u1", category="Docs", name="Home", properties={"url": "http://x/"})
    client.screen(user_id="u1", category="App", name="Main", properties={"k": 1})
    client.group(user_id="u1", group_id="g1", traits={"name": "Acme"})
    client.alias(previous_id="anon1", user_id="u1")
    client.shutdown()
    stored = {event["type"]: event for event in source.wait_for(6)}
    assert len(stored) == 6
    assert stored["identify"]["traits"] == {"email": "a@b.c"}
    assert stored["track"]["properties"] == {"total": 9.5}
    assert stored["page"]["name"] == "Home"
    assert stored["group"]["groupId"] == "g1"
    assert stored["alias"]["previousId"] == "anon1"
    assert {event["context"]["library"]["name"] for event in stored.values()} == {"analytics-python"}


def test_typed_clients_get_the_same_on_the_same_port(
    running: RunningSystem, source: Source, channel: grpc.Channel
) -> None:
    message_id = str(uuid.uuid4())
    metadata = (("authorization", f"Bearer {running.api_key}"),)
    result = EventServiceStub(channel).SendEvents(
        events.SendEventsRequest(
            events=[
                events.Event(
                    type="track",
                    message_id=message_id,
                    user_id="u1",
                    anonymous_id="a1",
                    event="Order Completed",
                    properties_json='{"total":9007199254740993}',
                    context=events.EventContext(ip="1.2.3.4", session=events.EventContext.Session(id=2**60)),
                ),
                events.Event(type="track", user_id="u1"),
            ]
        ),
        metadata=(("authorization", f"Bearer {source.write_key}"),),
    )
    assert result.accepted == 1
    assert [(item.index, item.code, item.path) for item in result.rejected] == [(1, "BadRequest", "event")]

    [document] = source.wait_for(1)
    assert document["context"] == {"ip": "1.2.3.4", "session": {"id": str(2**60)}}
    assert document["properties"] == {"total": 9007199254740993}

    listed = EventServiceStub(channel).ListEvents(events.ListEventsRequest(limit=1000), metadata=metadata).events
    [event] = [event for event in listed if event.message_id == message_id]
    assert event.connection_id == source.id
    assert event.properties_json == '{"total":9007199254740993}'
    assert event.context.session.id == 2**60

    connection = ConnectionServiceStub(channel).GetConnection(
        connections.GetConnectionRequest(id=source.id), metadata=metadata
    )
    assert (connection.name, connection.connector_type, len(connection.pipelines)) == ("Shop", "SDK", 2)
    assert not connection.HasField("strategy")

    seen = IdentityServiceStub(channel).ListConnectionIdentities(
        identities.ListConnectionIdentitiesRequest(id=source.id), metadata=metadata
    )
    assert seen.total == 1
    assert (seen.identities[0].user_id, list(seen.identities[0].anonymous_ids)) == ("u1", ["a1"])


def test_rejected_events_are_listed(running: RunningSystem, source: Source) -> None:
    source.send("batch", {"batch": [{"type": "track", "userId": "u1"}, {"type": "nonsense"}]})

    def rejected_events() -> list[dict[str, object]]:
        found: list[dict[str, object]] = get(running, f"/v1/events/rejected?connection={source.id}")["events"]
        return found

    wait_until(lambda: len(rejected_events()) == 2, 60)
    assert [(event["code"], event["path"]) for event in rejected_events()] == [
        ("BadRequest", "type"),
        ("BadRequest", "event"),
    ]
    assert base64.b64decode(str(rejected_events()[1]["body"])) == b'{"type":"track","userId":"u1"}'


async def test_the_async_stub_works_too(running: RunningSystem, source: Source) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        stub = ConnectionServiceStub(channel)
        metadata = (("authorization", f"Bearer {running.api_key}"),)
        found = await asyncio.gather(
            *(stub.GetConnection(connections.GetConnectionRequest(id=source.id), metadata=metadata) for _ in range(20))
        )
    assert {result.id for result in found} == {source.id}


def test_a_connection_knows_whether_a_call_with_its_key_has_arrived(running: RunningSystem, source: Source) -> None:
    path = f"/v1/connections/{source.id}/test"
    assert get(running, path) == {"received": False, "warnings": []}
    source.send("track", {"userId": "u1"})  # even a rejected call shows that the key is in the right place
    wait_until(lambda: get(running, path)["received"], 60)
    result = get(running, path)
    assert result["protocol"] == "track"
    assert result["lastReceivedAt"].endswith("Z")
