"""Batches: limits of events and bytes, groups, lingering, keys and summaries."""

import pytest

from headwater.connectors.contract import RateLimit
from tests.delivery.lanes import NOW, deliver, make_item, make_lane, make_policy, numbers, take, take_one


def test_a_batch_has_at_most_the_events_of_the_policy() -> None:
    lane = make_lane(make_policy(3))
    lane.offer([make_item(number) for number in range(7)], NOW)
    assert [numbers(each) for each in take(lane)] == [[0, 1, 2], [3, 4, 5], [6]]


def test_items_count_by_the_items_of_the_destination() -> None:
    lane = make_lane(make_policy(3))
    lane.offer([make_item(1), make_item(2, count=2), make_item(3, count=5), make_item(4)], NOW)
    assert [numbers(each) for each in take(lane)] == [[1, 2], [3], [4]]


def test_a_batch_has_at_most_the_bytes_of_the_policy() -> None:
    lane = make_lane(make_policy(10, max_bytes=100))
    lane.offer([make_item(1, size=60), make_item(2, size=40), make_item(3, size=1), make_item(4, size=500)], NOW)
    assert [numbers(each) for each in take(lane)] == [[1, 2], [3], [4]]


def test_routes_are_never_in_one_batch() -> None:
    lane = make_lane()
    lane.offer([make_item(1, route="a"), make_item(2, route="b"), make_item(3, route="a")], NOW)
    assert sorted(numbers(each) for each in take(lane)) == [[1, 3], [2]]


def test_an_item_of_another_route_waits_for_its_user() -> None:
    lane = make_lane()
    lane.offer([make_item(1, 5, route="a"), make_item(2, 5, route="b"), make_item(3, 5, route="a")], NOW)
    first = take_one(lane)
    assert numbers(first) == [1]
    deliver(lane, first)
    second = take_one(lane)
    assert numbers(second) == [2]
    deliver(lane, second)
    assert numbers(take_one(lane)) == [3]


def test_a_batch_of_a_user_has_no_other() -> None:
    lane = make_lane(make_policy(scope="User"))
    users = ["a", "b", "a", "", ""]
    lane.offer([make_item(number, user=user) for number, user in enumerate(users)], NOW)
    assert sorted(numbers(each) for each in take(lane)) == [[0, 2], [1], [3], [4]]


def test_a_single_event_is_alone_and_does_not_linger() -> None:
    lane = make_lane(make_policy(10, scope="Event"))
    lane.offer([make_item(1, enqueued_at=NOW), make_item(2, enqueued_at=NOW)], NOW)
    assert [numbers(each) for each in take(lane)] == [[1], [2]]


def test_followers_are_in_the_batch_of_what_they_wait_for() -> None:
    lane = make_lane(make_policy(4))
    lane.offer([make_item(1, 5), make_item(2, 5), make_item(3, 5, 6), make_item(4, 6), make_item(5, 6)], NOW)
    batch = take_one(lane)
    assert numbers(batch) == [1, 2, 3, 4]
    deliver(lane, batch)
    assert numbers(take_one(lane)) == [5]


def test_an_item_that_waits_for_another_batch_is_not_in_this_one() -> None:
    lane = make_lane(make_policy(2))
    lane.offer([make_item(1, 5), make_item(2, 6), make_item(3, 5, 7), make_item(4, 7)], NOW)
    first = take_one(lane)
    assert numbers(first) == [1, 2]
    deliver(lane, first)
    assert numbers(take_one(lane)) == [3, 4]


def test_the_batch_goes_on_with_the_earliest_item() -> None:
    lane = make_lane(make_policy(3))
    lane.offer([make_item(1, 5), make_item(2, 6), make_item(3, 5), make_item(4, 7)], NOW)
    assert [numbers(each) for each in take(lane)] == [[1, 2, 3], [4]]


def test_a_batch_that_is_not_full_lingers() -> None:
    lane = make_lane(make_policy(3))
    lane.offer([make_item(1, enqueued_at=NOW)], NOW)
    assert take(lane) == []
    assert lane.wake_at() == pytest.approx(NOW + 0.020)
    lane.offer([make_item(2, enqueued_at=NOW)], NOW + 0.010)
    assert numbers(take_one(lane, NOW + 0.020)) == [1, 2]


def test_a_full_batch_does_not_linger() -> None:
    lane = make_lane(make_policy(2))
    lane.offer([make_item(number, enqueued_at=NOW) for number in range(3)], NOW)
    assert [numbers(each) for each in take(lane)] == [[0, 1]]
    assert [numbers(each) for each in take(lane, NOW + 0.020)] == [[2]]


def test_a_late_item_does_not_linger() -> None:
    lane = make_lane(make_policy(3))
    lane.offer([make_item(1, enqueued_at=NOW)], NOW)
    lane.offer([make_item(2, enqueued_at=NOW - 1)], NOW)
    assert numbers(take_one(lane)) == [1, 2]


def test_the_key_of_a_batch_is_that_of_its_items() -> None:
    lanes = [make_lane() for _ in range(2)]
    for lane in lanes:
        lane.offer([make_item(1), make_item(2)], NOW)
    first, second = (take_one(lane) for lane in lanes)
    assert first.key == second.key
    assert len(first.key) == 32
    deliver(lanes[0], first)
    lanes[0].offer([make_item(3)], NOW)
    assert take_one(lanes[0]).key == "key3"


def test_late_items_beyond_the_rate_are_summarised() -> None:
    policy = make_policy(1, scope="Event", overflow="Summarise", order="None")
    lane = make_lane(policy, rates=[RateLimit(count=1, seconds=60.0)])
    lane.offer([make_item(number, enqueued_at=NOW) for number in range(5)], NOW)
    assert numbers(take_one(lane)) == [0]
    assert numbers(take_one(lane, NOW + 60)) == [1, 2, 3, 4]


def test_a_batch_fills_up_while_it_waits_for_its_rate() -> None:
    lane = make_lane(make_policy(10), rates=[RateLimit(count=1, seconds=1.0)])
    lane.offer([make_item(1)], NOW)
    take_one(lane)
    lane.offer([make_item(2)], NOW)
    assert take(lane, NOW + 0.5) == []
    lane.offer([make_item(3)], NOW + 0.9)
    assert numbers(take_one(lane, NOW + 1)) == [2, 3]
