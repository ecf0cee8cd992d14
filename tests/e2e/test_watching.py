"""Listeners, WatchEvents and server-sent events through Envoy, with two backends and a second workspace that sees
nothing."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from grpc import aio

from headwater.base.outcomes import DeliveryOutcome
from headwater.observe.outcomes import LocalOutcomes
from headwater.observe.watching import MAX_WATCHERS
from headwater.v1 import events_pb2 as pb
from headwater.v1.events_pb2_grpc import EventServiceStub
from tests.e2e.source import Source, get, make_source, post
from tests.system import HTTP, RunningSystem, start, wait_until
from tests.tenants import add_tenant

SILENCE_SECONDS = 1.0
"""Time in which an event that a watcher must not get would have arrived."""
FILTER = {"logical": "and", "conditions": [{"property": "event", "operator": "is", "values": ["Seen"]}]}
ORDERED = {"type": "track", "userId": "ada", "event": "Ordered"}
SEEN = {"type": "track", "userId": "ada", "event": "Seen"}


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    running = start(tmp_path_factory.mktemp("watching") / "data", HEADWATER_BACKENDS="2")
    yield running
    assert running.stop() == 0, running.errors


@pytest.fixture(scope="module")
def source(system: RunningSystem) -> Source:
    return make_source(system)


@pytest.fixture(scope="module")
def other(system: RunningSystem) -> Source:
    """A source of a second workspace."""
    return make_source(add_tenant(system, "Other"))


class Stream:
    """The server-sent events of one response."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.aiter_lines()

    async def next(self, name: str) -> Any:
        """Return the data of the next event, which has this name. Comments are passed over."""
        async with asyncio.timeout(30):
            while (line := await anext(self._lines)) in ("", ":"):
                pass
            assert line == f"event: {name}"
            data = []
            while line := await anext(self._lines):
                assert line.startswith("data: ")
                data.append(line.removeprefix("data: "))
        return json.loads("\n".join(data))

    async def is_silent(self) -> bool:
        """Return whether nothing but comments arrives for a while."""
        try:
            async with asyncio.timeout(SILENCE_SECONDS):
                async for line in self._lines:
                    if line not in ("", ":"):
                        return False
        except TimeoutError:
            return True
        return True


@asynccontextmanager
async def watch(system: RunningSystem, **parameters: Any) -> AsyncIterator[Stream]:
    """Watch over REST, once the watch has begun."""
    async with (
        httpx.AsyncClient(timeout=60) as client,
        client.stream(
            "GET", f"{system.base_url}/v1/events/watch", params=parameters, headers=system.authorization
        ) as response,
    ):
        if response.status_code != 200:
            await response.aread()
        yield Stream(response)


def metadata(system: RunningSystem) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {system.api_key}"),)


async def test_events_arrive_as_server_sent_events_of_their_own_workspace(
    system: RunningSystem, source: Source, other: Source
) -> None:
    async with watch(system) as own, watch(other.system) as theirs:
        assert own.response.status_code == 200
        assert own.response.headers["content-type"] == "text/event-stream"
        assert own.response.headers["cache-control"] == "no-store"
        event = {**SEEN, "messageId": "sse", "properties": {"price": 9007199254740993}}
        assert source.send("track", event).status_code == 200
        arrived = await own.next("event")
        assert (arrived["messageId"], arrived["connectionId"]) == ("sse", source.id)
        assert arrived["properties"]["price"] == 9007199254740993
        assert await theirs.is_silent()
    (stored,) = source.wait_for(1)
    assert stored == arrived


async def test_line_ends_between_the_values_of_an_event_do_not_break_it(system: RunningSystem, source: Source) -> None:
    async with watch(system, connection=source.id) as stream:
        body = b'{"type":"track","userId":"u","event":"Seen","properties":{"a":\r\n1,\n"b":2}}'
        HTTP.post(f"{system.base_url}/v1/track", content=body, auth=(source.write_key, "")).raise_for_status()
        assert (await stream.next("event"))["properties"] == {"a": 1, "b": 2}


async def test_a_filter_and_a_connection_select_events(system: RunningSystem, source: Source) -> None:
    second = make_source(system)
    async with watch(system, connection=source.id, filter=json.dumps(FILTER)) as stream:
        for sender, event, id_ in ((source, ORDERED, "1"), (second, SEEN, "2"), (source, SEEN, "3")):
            sender.send("track", {**event, "messageId": id_})
        assert (await stream.next("event"))["messageId"] == "3"
        assert await stream.is_silent()


async def test_grpc_watchers_get_typed_events_of_their_own_workspace(
    system: RunningSystem, source: Source, other: Source
) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{system.port}") as channel:
        stub = EventServiceStub(channel)
        own, theirs = (
            stub.WatchEvents(pb.WatchEventsRequest(), metadata=metadata(each)) for each in (system, other.system)
        )
        assert await own.read() == pb.WatchEventsResponse()
        assert await theirs.read() == pb.WatchEventsResponse()
        source.send("track", {**SEEN, "messageId": "grpc"})
        watched = await own.read()
        assert isinstance(watched, pb.WatchEventsResponse)
        (event,) = watched.events
        assert (event.message_id, event.connection_id) == ("grpc", source.id)
        waiting = asyncio.create_task(theirs.read())
        done, _ = await asyncio.wait([waiting], timeout=SILENCE_SECONDS)
        assert not done
        waiting.cancel()
        own.cancel()
        theirs.cancel()


@pytest.mark.parametrize(
    ("parameters", "status", "code"),
    [
        ({"connection": 1}, 422, "ConnectionNotExist"),
        ({"connection": 0}, 400, "BadRequest"),
        ({"filter": "{}"}, 400, "BadRequest"),
        ({"filter": '{"logical":"and","conditions":[]}'}, 400, "BadRequest"),
        ({"first": "1"}, 400, "BadRequest"),
    ],
)
async def test_a_watch_that_cannot_begin_is_an_ordinary_error(
    system: RunningSystem, parameters: dict[str, Any], status: int, code: str
) -> None:
    async with watch(system, **parameters) as stream:
        assert (stream.response.status_code, stream.response.json()["error"]["code"]) == (status, code)


async def test_a_watch_needs_a_key(system: RunningSystem) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.get(f"{system.base_url}/v1/events/watch")).status_code == 401


async def test_a_connection_of_another_workspace_does_not_exist(system: RunningSystem, other: Source) -> None:
    async with watch(system, connection=other.id) as stream:
        assert stream.response.json()["error"]["code"] == "ConnectionNotExist"


async def test_watchers_that_disconnect_make_space_for_others(system: RunningSystem) -> None:
    for _ in range(3):
        watching = [watch(system) for _ in range(2 * MAX_WATCHERS)]
        opened = [await each.__aenter__() for each in watching]
        assert Counter(each.response.status_code for each in opened)[200] >= MAX_WATCHERS
        for each in watching:
            await each.__aexit__(None, None, None)
        await asyncio.sleep(0.5)
    async with watch(system) as stream:
        assert stream.response.status_code == 200


async def test_outcomes_of_deliveries_reach_those_who_want_them(
    system: RunningSystem, source: Source, other: Source
) -> None:
    workspace = get(system, "/v1/workspaces/current")["id"]
    delivered = DeliveryOutcome(workspace, 7, 8, source.id, "m", "Passed", 1_790_000_000_000_000, status=204)
    retried = DeliveryOutcome(
        workspace, 7, 8, source.id, "m", "Retrying", 1_790_000_000_000_000, "Finalize", "no answer", None, 3
    )
    publisher = LocalOutcomes(_run_dir(system) / "outcomes")
    async with (
        watch(system, deliveries="true") as own,
        watch(system) as events_only,
        watch(other.system, deliveries="true") as theirs,
    ):
        wait_until(lambda: publisher.is_watched(workspace), 10)
        publisher.publish([delivered, retried])
        assert await own.next("delivery") == {
            "destination": 7, "pipeline": 8, "connectionId": source.id, "messageId": "m", "step": "Finalize",
            "outcome": "Passed", "message": "", "status": 204, "attempts": 1, "at": "2026-09-21T14:13:20Z",
        }  # fmt: skip
        assert (await own.next("delivery"))["message"] == "no answer"
        assert await events_only.is_silent()
        assert await theirs.is_silent()
    wait_until(lambda: not publisher.is_watched(workspace), 10)
    publisher.close()


def _run_dir(system: RunningSystem) -> Path:
    return system.data_dir / "run"


# --- Listeners ----------------------------------------------------------------------------------------------------


def listen(system: RunningSystem, **members: Any) -> int:
    answer = post(system, "/v1/events/listeners", members)
    assert list(answer) == ["id"]
    id_: int = answer["id"]
    return id_


def read(system: RunningSystem, id_: int) -> tuple[list[str], int]:
    answer = get(system, f"/v1/events/listeners/{id_}")
    assert set(answer) == {"events", "omitted"}
    return [event["messageId"] for event in answer["events"]], answer["omitted"]


def test_a_listener_is_drained_by_reading_it(system: RunningSystem, source: Source, other: Source) -> None:
    own, all_, theirs = listen(system, connection=source.id), listen(system, connection=None), listen(other.system)
    for number in range(3):
        source.send("track", {**SEEN, "messageId": f"l{number}"})
    wait_until(lambda: len(source.events()) >= 3, 30)
    time.sleep(0.5)  # the listeners follow the log by themselves
    assert read(system, own) == read(system, all_) == (["l0", "l1", "l2"], 0)
    assert read(system, own) == ([], 0)
    assert read(other.system, theirs) == ([], 0)
    assert HTTP.get(f"{system.base_url}/v1/events/listeners/{theirs}", headers=system.authorization).status_code == 404


def test_a_listener_samples_and_counts(system: RunningSystem, source: Source) -> None:
    id_ = listen(system, size=2, filter=FILTER)
    for number in range(5):
        source.send("track", {**SEEN, "messageId": f"s{number}"})
        source.send("track", {**ORDERED, "messageId": f"o{number}"})
    found: list[str] = []
    omitted = 0

    def has_all() -> bool:
        nonlocal omitted
        ids, more = read(system, id_)
        found.extend(ids)
        omitted += more
        return len(found) + omitted >= 5

    wait_until(has_all, 30)
    assert len(found) + omitted == 5
    assert all(id_.startswith("s") for id_ in found)


def test_a_deleted_listener_does_not_exist(system: RunningSystem) -> None:
    id_ = listen(system)
    for _ in range(2):  # the second time there is none
        answer = HTTP.delete(f"{system.base_url}/v1/events/listeners/{id_}", headers=system.authorization)
        assert (answer.status_code, answer.text) == (200, "{}")
    answer = HTTP.get(f"{system.base_url}/v1/events/listeners/{id_}", headers=system.authorization)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "NotFound")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"size": 0}, 400, "BadRequest"),
        ({"size": 1001}, 400, "BadRequest"),
        ({"connection": 1}, 422, "ConnectionNotExist"),
        ({"filter": {"logical": "and", "conditions": []}}, 400, "BadRequest"),
    ],
)
def test_bad_listeners(system: RunningSystem, body: dict[str, Any], status: int, code: str) -> None:
    for _ in range(2):  # in each backend
        answer = HTTP.post(f"{system.base_url}/v1/events/listeners", json=body, headers=system.authorization)
        assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


def test_a_workspace_has_a_limited_number_of_listeners(system: RunningSystem) -> None:
    tenant = add_tenant(system, "Crowded")
    ids = [listen(tenant) for _ in range(100)]
    answer = HTTP.post(f"{system.base_url}/v1/events/listeners", json={}, headers=tenant.authorization)
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "TooManyListeners")
    HTTP.delete(f"{system.base_url}/v1/events/listeners/{ids[0]}", headers=tenant.authorization)
    listen(tenant)
    assert listen(system)


async def test_typed_listeners(system: RunningSystem, source: Source) -> None:
    async with aio.insecure_channel(f"127.0.0.1:{system.port}") as channel:
        stub = EventServiceStub(channel)
        created = await stub.CreateEventListener(
            pb.CreateEventListenerRequest(connection=source.id), metadata=metadata(system)
        )
        source.send("track", {**SEEN, "messageId": "typed"})
        request = pb.GetEventListenerRequest(id=created.id)
        async with asyncio.timeout(30):
            while not (found := (await stub.GetEventListener(request, metadata=metadata(system))).events):
                await asyncio.sleep(0.05)
        assert [event.message_id for event in found] == ["typed"]
        await stub.DeleteEventListener(pb.DeleteEventListenerRequest(id=created.id), metadata=metadata(system))
        with pytest.raises(aio.AioRpcError) as failed:
            await stub.GetEventListener(request, metadata=metadata(system))
        assert failed.value.code() == grpc.StatusCode.NOT_FOUND


# --- Ends ---------------------------------------------------------------------------------------------------------


async def test_a_revoked_key_ends_its_watches(system: RunningSystem) -> None:
    workspace = get(system, "/v1/workspaces/current")["id"]
    created = post(system, "/v1/keys", {"name": "Short", "workspace": workspace})
    async with aio.insecure_channel(f"127.0.0.1:{system.port}") as channel:
        watching = EventServiceStub(channel).WatchEvents(
            pb.WatchEventsRequest(), metadata=(("authorization", f"Bearer {created['token']}"),)
        )
        await watching.read()
        HTTP.delete(f"{system.base_url}/v1/keys/{created['id']}", headers=system.authorization).raise_for_status()
        with pytest.raises(aio.AioRpcError) as failed:
            async with asyncio.timeout(10):
                while await watching.read() is not aio.EOF:
                    pass
        assert failed.value.code() == grpc.StatusCode.UNAUTHENTICATED


async def test_watches_do_not_delay_the_stop_of_the_system(tmp_path: Path) -> None:
    system = start(tmp_path / "data")
    async with watch(system) as stream, aio.insecure_channel(f"127.0.0.1:{system.port}") as channel:
        watching = EventServiceStub(channel).WatchEvents(pb.WatchEventsRequest(), metadata=metadata(system))
        await watching.read()
        began = time.monotonic()
        assert await asyncio.to_thread(system.stop) == 0, system.errors
        assert time.monotonic() - began < 8, "the drain alone would take ten seconds"
        assert await stream.is_silent()
        with pytest.raises(aio.AioRpcError):
            while await watching.read() is not aio.EOF:
                pass
