"""Deliveries reach their destinations: in order for each user, again until it is done, and each once per commit."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from unittest.mock import ANY, Mock, call

import pytest

from headwater.catalog.definition import Definition, FunctionDefinition, TransformationDefinition
from headwater.delivery import dispatcher
from headwater.management.connections import UpdateConnection, update_connection
from headwater.management.pipelines import delete_pipeline, set_pipeline_status
from headwater.schemas import JsonType, ObjectType, Property
from headwater.state.deliveries import CourierReplaced, DeadSelection, QueuedChunk
from tests.delivery.conftest import (
    SECRET,
    Deliveries,
    add_pipeline,
    delivered,
    open_deliveries,
    open_keyed_catalog,
)
from tests.e2e.receiver import Received, Receiver, receiver


@pytest.fixture
def hook() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


async def test_events_are_delivered_in_the_order_of_each_user(deliveries: Deliveries, hook: Receiver) -> None:
    destination = await deliveries.add_destination(hook.url)
    users = ["ann", "bob", "ann", "cid"] * 50
    async with deliveries.dispatching():
        await deliveries.append(destination, users=users)
        await deliveries.wait_until_empty(destination.id)
    numbers = delivered(hook.bodies())
    assert sorted(numbers) == list(range(1, 201))
    for user in set(users):
        of_user = [number for number in numbers if users[number - 1] == user]
        assert of_user == sorted(of_user)


async def test_what_waits_at_the_start_is_delivered_in_batches(deliveries: Deliveries, hook: Receiver) -> None:
    destination = await deliveries.add_destination(hook.url, batch_size=100)
    for _ in range(5):
        await deliveries.append(destination, users=[f"user-{number}" for number in range(200)])
    async with deliveries.dispatching():
        await deliveries.wait_until_empty(destination.id)
    numbers = [event["data"]["properties"]["n"] for body in hook.bodies() for event in body["data"]]
    assert sorted(numbers) == list(range(1, 1001))
    assert len(hook.requests) < 50


async def test_an_event_that_is_refused_becomes_a_dead_letter(deliveries: Deliveries, hook: Receiver) -> None:
    def refuse_the_second(received: Received) -> tuple[int, dict[str, str], bytes]:
        bad = received.json()["data"]["properties"]["n"] == 2
        return (422 if bad else 200), {}, b"no such product" if bad else b""

    hook.answer = refuse_the_second
    destination = await deliveries.add_destination(hook.url)
    async with deliveries.dispatching():
        await deliveries.append(destination, users=["ann", "ann", "ann"])
        await deliveries.wait_until_empty(destination.id)
    page = await deliveries.store.dead_letters(DeadSelection(workspace=deliveries.workspace), limit=10)
    [letter] = page.letters
    assert (letter.event.message_id, letter.status, letter.attempts) == ("m2", 422, 1)
    assert delivered(hook.bodies()) == [1, 2, 3]


async def test_a_destination_that_fails_gets_everything_when_it_is_back(deliveries: Deliveries, hook: Receiver) -> None:
    failing = iter([500, 503, 500])
    hook.answer = lambda _: (next(failing, 200), {}, b"")
    destination = await deliveries.add_destination(hook.url)
    async with deliveries.dispatching():
        await deliveries.append(destination, users=["ann"] * 5)
        await deliveries.wait_until_empty(destination.id, seconds=40)
    assert delivered(hook.bodies())[-5:] == [1, 2, 3, 4, 5]
    keys = {request.headers["webhook-id"] for request in hook.requests}
    assert len(keys) == 5


async def test_a_dead_destination_delays_no_other(deliveries: Deliveries, hook: Receiver) -> None:
    dead = await deliveries.add_destination("http://127.0.0.1:9/hook")
    living = await deliveries.add_destination(hook.url)
    async with deliveries.dispatching():
        await deliveries.append(dead, living, users=["ann"] * 50)
        await deliveries.wait_until_empty(living.id)
        health = await deliveries.store.health()
    assert delivered(hook.bodies()) == list(range(1, 51))
    assert health[dead.id].failing_since and "Connect" in health[dead.id].last_error


async def test_a_disabled_pipeline_keeps_its_events_until_it_is_enabled(deliveries: Deliveries, hook: Receiver) -> None:
    destination = await deliveries.add_destination(hook.url)
    [pipeline] = destination.pipelines
    await set_pipeline_status(deliveries.catalog, deliveries.workspace, pipeline.id, enabled=False)
    other = await deliveries.add_destination(hook.url)
    async with deliveries.dispatching():
        await deliveries.append(destination, other, users=["ann"] * 3)
        await deliveries.wait_until_empty(other.id)
        assert delivered(hook.bodies()) == [1, 2, 3]  # those of the other destination
        await set_pipeline_status(deliveries.catalog, deliveries.workspace, pipeline.id, enabled=True)
        await deliveries.wait_until_empty(destination.id)
    assert delivered(hook.bodies()) == [1, 2, 3, 1, 2, 3]


@pytest.mark.parametrize("others", [0, 1])
async def test_the_deliveries_of_a_deleted_pipeline_go(deliveries: Deliveries, hook: Receiver, others: int) -> None:
    destination = await deliveries.add_destination(hook.url)
    [deleted] = destination.pipelines
    for _ in range(others):
        await add_pipeline(deliveries.catalog, destination)
    await deliveries.append(destination, users=["ann"] * 3)
    await delete_pipeline(deliveries.catalog, deliveries.workspace, deleted.id)
    async with deliveries.dispatching():
        await deliveries.wait_until_empty(destination.id)
    assert hook.requests == []
    assert await deliveries.store.dead_counts(deliveries.workspace) == []


async def test_events_of_a_pipeline_that_is_created_during_a_read_are_delivered(
    deliveries: Deliveries, tmp_path: Path, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = await deliveries.add_destination(hook.url)
    read = deliveries.store.read

    async def create_and_read(*arguments: Any, **values: Any) -> list[QueuedChunk]:
        """Create a pipeline, and append for it, in another process."""
        monkeypatch.setattr(deliveries.store, "read", read)
        async with open_keyed_catalog(tmp_path) as other:
            await add_pipeline(other, destination)
            changed = other.connection(deliveries.workspace, destination.id)
            assert changed is not None
        await deliveries.append(changed, users=["ann"])
        return await read(*arguments, **values)

    monkeypatch.setattr(deliveries.store, "read", create_and_read)
    async with deliveries.dispatching():
        await deliveries.append(destination, users=["ann"])
        await deliveries.wait_until_empty(destination.id)
    assert sorted(delivered(hook.bodies())) == [1, 2, 2]


async def test_events_that_cannot_be_delivered_in_time_are_given_up(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "CLEAN_SECONDS", 0.05)
    deliveries.expiry = timedelta(seconds=0.5)
    destination = await deliveries.add_destination("http://127.0.0.1:9/hook")
    async with deliveries.dispatching() as running:
        ended = Mock(wraps=running._reporter._metrics.deliveries_ended)
        monkeypatch.setattr(running._reporter._metrics, "deliveries_ended", ended)
        await deliveries.append(destination, users=["ann"] * 3)
        await deliveries.wait_until_empty(destination.id)
        expired = call(destination.id, destination.pipelines[0].id, "Expired", ANY)
        # The lane and the store may give up the same event, which is then counted twice.
        await wait_for(lambda: sum(end.args[3] for end in ended.call_args_list if end == expired) >= 3)
    [count] = await deliveries.store.dead_counts(deliveries.workspace)
    assert (count.destination, count.reason, count.count) == (destination.id, "Expired", 3)


async def test_a_change_of_the_settings_ends_a_pause(deliveries: Deliveries, hook: Receiver) -> None:
    with receiver(lambda _: (410, {}, b"")) as old:
        destination = await deliveries.add_destination(old.url)
        async with deliveries.dispatching():
            await deliveries.append(destination, users=["ann"] * 3)
            await wait_for(lambda: len(old.requests) == 1)
            settings = {"url": hook.url, "secret": SECRET}
            request = UpdateConnection(name="Hook", sending_mode="Server", settings=settings)
            await update_connection(deliveries.catalog, deliveries.workspace, destination.id, request)
            await deliveries.wait_until_empty(destination.id)
    assert len(old.requests) == 1  # a closed endpoint is not tried again
    assert delivered(hook.bodies()) == [1, 2, 3]


async def test_a_change_holds_for_what_is_appended_after_it(
    deliveries: Deliveries, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "REFRESH_SECONDS", 60.0)
    with receiver() as old:
        destination = await deliveries.add_destination(old.url)
        async with deliveries.dispatching():
            await deliveries.append(destination, users=["ann"])
            await deliveries.wait_until_empty(destination.id)
            settings = {"url": hook.url, "secret": SECRET}
            request = UpdateConnection(name="Hook", sending_mode="Server", settings=settings)
            await update_connection(deliveries.catalog, deliveries.workspace, destination.id, request)
            await deliveries.append(destination, users=["ann"] * 2)
            await deliveries.wait_until_empty(destination.id)
    assert len(old.requests) == 1
    assert delivered(hook.bodies()) == [2, 3]


async def test_a_restart_sends_again_only_what_was_in_flight(tmp_path: Path, hook: Receiver) -> None:
    answering = threading.Event()

    def wait_after_ten(_: Received) -> tuple[int, dict[str, str], bytes]:
        if len(hook.requests) > 10:
            answering.wait(20)
        return 200, {}, b""

    hook.answer = wait_after_ten
    async with open_deliveries(tmp_path) as opened:
        destination = await opened.add_destination(hook.url)
        await opened.append(destination, users=["ann"] * 30)
        killed = asyncio.create_task(opened.dispatcher().run(asyncio.Event()))
        await wait_for(lambda: len(hook.requests) == 11)
        await asyncio.sleep(4 * dispatcher.FLUSH_SECONDS)  # the results of the first ten are committed
        killed.cancel()
        await asyncio.gather(killed, return_exceptions=True)
    answering.set()
    async with open_deliveries(tmp_path) as opened, opened.dispatching():
        await opened.wait_until_empty(destination.id)
    assert delivered(hook.bodies()) == [*range(1, 12), *range(11, 31)]
    assert hook.requests[10].headers["webhook-id"] == hook.requests[11].headers["webhook-id"]


async def test_a_courier_that_was_replaced_stops(deliveries: Deliveries, hook: Receiver) -> None:
    destination = await deliveries.add_destination(hook.url)
    running = asyncio.create_task(deliveries.dispatcher().run(asyncio.Event()))
    await deliveries.append(destination, users=["ann"])
    await deliveries.wait_until_empty(destination.id)
    await deliveries.store.claim()
    await deliveries.append(destination, users=["ann"])
    with pytest.raises(CourierReplaced):
        await asyncio.wait_for(running, 10)


async def test_a_courier_without_progress_notices_that_it_was_replaced(
    deliveries: Deliveries, hook: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check the deliveries in memory, which may be of an erased person while a failing destination commits nothing."""
    monkeypatch.setattr(dispatcher, "CLEAN_SECONDS", 1e9)
    destination = await deliveries.add_destination(hook.url)
    running = asyncio.create_task(deliveries.dispatcher().run(asyncio.Event()))
    await deliveries.append(destination, users=["ann"])
    await deliveries.wait_until_empty(destination.id)
    await deliveries.store.claim()
    with pytest.raises(CourierReplaced):
        await asyncio.wait_for(running, 10)


ENDLESS: Final = "function transform(event) { while (true) {} }"
THROWS: Final = "function transform(event) { throw new Error('no price') }"


@pytest.mark.process
async def test_a_function_that_throws_makes_dead_letters_with_its_error(deliveries: Deliveries, hook: Receiver) -> None:
    destination = await deliveries.add_destination(hook.url, **javascript(THROWS))
    async with deliveries.dispatching():
        await deliveries.append(destination, users=["ann"] * 3)
        await deliveries.wait_until_empty(destination.id)
    page = await deliveries.store.dead_letters(DeadSelection(workspace=deliveries.workspace), limit=10)
    assert {letter.reason for letter in page.letters} == {"TransformationFailed"}
    assert all("no price" in letter.message for letter in page.letters)
    assert hook.requests == []


@pytest.mark.process
async def test_a_function_that_never_ends_holds_only_its_destination(deliveries: Deliveries, hook: Receiver) -> None:
    endless = await deliveries.add_destination(hook.url, **javascript(ENDLESS))
    living = await deliveries.add_destination(hook.url)
    async with deliveries.dispatching():
        await deliveries.append(endless, living, users=["ann"] * 20)
        await deliveries.wait_until_empty(living.id, seconds=10)
    assert delivered(hook.bodies()) == list(range(1, 21))


def javascript(source: str) -> dict[str, Any]:
    """Return the members of a pipeline whose function makes the data of a message."""
    schema = ObjectType((Property("data", JsonType(), create_required=True, description="Data of the message"),))
    function = FunctionDefinition(language="JavaScript", source=source, in_paths=("properties",), out_paths=("data",))
    return {
        "event_type": "send_data",
        "out_schema": schema,
        "definition": Definition(transformation=TransformationDefinition(function=function)),
    }


async def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.01)
