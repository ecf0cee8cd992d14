"""Deliveries reach their destinations: in order for each user, again until it is done, and each once per commit."""

from collections.abc import Iterator

import pytest

from headwater.state.deliveries import DeadSelection
from tests.delivery.conftest import Deliveries, delivered
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


async def test_a_disabled_pipeline_keeps_its_events(deliveries: Deliveries, hook: Receiver) -> None:
    destination = await deliveries.add_destination(hook.url, enabled=False)
    async with deliveries.dispatching():
        await deliveries.append(destination, users=["ann"] * 3)
        assert hook.requests == []
