"""The lane: results of items and requests, pauses, memory, expiry, and order per user."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from headwater.connectors.contract import DELIVERED, UNEXPECTED_RESPONSE, RateLimit, rejected, retry, succeeded
from headwater.delivery.items import EXPIRED, Dead, Health, HealthState, LaneLimits
from headwater.delivery.lane import Lane
from headwater.delivery.rates import AccountRates
from tests.delivery.lanes import (
    GONE,
    INVALID,
    NOW,
    UNAUTHORIZED,
    UNAVAILABLE,
    deliver,
    fail,
    invalid_result,
    make_item,
    make_lane,
    make_policy,
    numbers,
    respond,
    take,
    take_one,
)


def read_state(lane: Lane) -> HealthState:
    return lane.health.state


def test_items_are_delivered_in_one_request() -> None:
    lane = make_lane()
    lane.offer([make_item(1, 5), make_item(2, 5), make_item(3, 6)], NOW)
    batch = take_one(lane)
    assert numbers(batch) == [1, 2, 3]
    assert batch.attempt == 1
    assert [item.number for item in deliver(lane, batch).delivered] == [1, 2, 3]
    assert lane.figures.items == lane.figures.batches == 0
    assert lane.wake_at() is None


def test_an_item_waits_for_earlier_ones_of_its_keys() -> None:
    lane = make_lane(make_policy(1, scope="Event"))
    lane.offer([make_item(1, 5), make_item(2, 5, 6), make_item(3, 6), make_item(4, 7)], NOW)
    first, fourth = take(lane)
    assert (numbers(first), numbers(fourth)) == ([1], [4])
    deliver(lane, first)
    second = take_one(lane)
    assert numbers(second) == [2]
    deliver(lane, second)
    assert numbers(take_one(lane)) == [3]


def test_without_order_nothing_waits() -> None:
    lane = make_lane(make_policy(1, scope="Event", order="None"))
    lane.offer([make_item(1, 5), make_item(2, 5)], NOW)
    assert [numbers(each) for each in take(lane)] == [[1], [2]]


def test_a_rejected_item_is_dead_with_its_reason() -> None:
    lane = make_lane()
    lane.offer([make_item(1, 5), make_item(2, 5)], NOW)
    completion = respond(lane, take_one(lane), rejected("InvalidEmail", "no address"), DELIVERED)
    (dead,) = completion.dead
    assert (dead.number, dead.pipeline, dead.reason, dead.message, dead.status) == (
        1,
        7,
        "InvalidEmail",
        "no address",
        200,
    )
    assert dead.attempts == 1
    assert [item.number for item in completion.delivered] == [2]


def test_an_item_to_be_retried_blocks_its_user_only() -> None:
    lane = make_lane(make_policy(2))
    lane.offer([make_item(1, 5), make_item(2, 6)], NOW)
    respond(lane, take_one(lane), retry("Throttled", after_seconds=2.0), DELIVERED)
    lane.offer([make_item(3, 5), make_item(4, 6)], NOW)
    assert numbers(take_one(lane)) == [4]
    assert take(lane, NOW + 1.9) == []
    wake_at = lane.wake_at()
    assert wake_at is not None
    assert wake_at >= NOW + 2
    assert numbers(take_one(lane, wake_at)) == [1, 3]


def test_an_item_that_only_another_one_prevented_is_sent_again_without_a_wait() -> None:
    lane = make_lane(make_policy(3))
    lane.offer([make_item(1, 5), make_item(2, 6), make_item(3, 7)], NOW)
    again = retry("NotTaken", after_seconds=0.0)
    respond(lane, take_one(lane), again, rejected("Invalid"), again)
    assert numbers(take_one(lane)) == [1, 3]


def test_items_that_a_throttled_user_prevented_are_sent_again_without_a_wait() -> None:
    lane = make_lane(make_policy(3))
    lane.offer([make_item(1, 5), make_item(2, 6), make_item(3, 7)], NOW)
    again = retry("NotTaken", after_seconds=0.0)
    respond(lane, take_one(lane), again, retry("Throttled", after_seconds=3.0), again)
    others = take_one(lane)
    assert numbers(others) == [1, 3]
    deliver(lane, others)
    assert take(lane, NOW + 2.9) == []
    assert numbers(take_one(lane, NOW + 3)) == [2]


def test_items_wait_if_none_of_their_request_is_finished() -> None:
    """A request that names nobody could be sent again and again."""
    lane = make_lane(make_policy(2))
    lane.offer([make_item(1, 5), make_item(2, 6)], NOW)
    respond(lane, take_one(lane), retry("NotTaken", after_seconds=0.0), retry("NotTaken", after_seconds=0.0))
    assert take(lane, NOW + 0.4) == []


def test_an_item_that_was_delivered_before_an_earlier_one_frees_no_later_one() -> None:
    lane = make_lane(make_policy(2))
    lane.offer([make_item(1, 5), make_item(2, 5), make_item(3, 5)], NOW)
    completion = respond(lane, take_one(lane), retry("Throttled", after_seconds=2.0), DELIVERED)
    assert [item.number for item in completion.delivered] == [2]
    assert take(lane) == []
    assert numbers(take_one(lane, NOW + 3)) == [1, 3]


def test_the_attempts_of_an_item_are_counted_over_requests() -> None:
    lane = make_lane()
    lane.offer([make_item(1)], NOW)
    fail(lane, take_one(lane), UNAVAILABLE)
    respond(lane, take_one(lane, NOW + 10), retry("Throttled"), now=NOW + 10)
    (dead,) = respond(lane, take_one(lane, NOW + 20), rejected("Invalid"), now=NOW + 20).dead
    assert dead.attempts == 3


def test_a_response_that_does_not_account_for_an_item_is_retried_once() -> None:
    lane = make_lane()
    lane.offer([make_item(1)], NOW)
    assert respond(lane, take_one(lane), retry(UNEXPECTED_RESPONSE, "not JSON")).dead == ()
    (dead,) = respond(lane, take_one(lane, NOW + 10), retry(UNEXPECTED_RESPONSE, "not JSON"), now=NOW + 10).dead
    assert (dead.reason, dead.message, dead.attempts) == (UNEXPECTED_RESPONSE, "not JSON", 2)


def test_a_rejected_batch_is_halved_until_the_culprit_is_alone() -> None:
    lane = make_lane()
    lane.offer([make_item(number) for number in range(8)], NOW)
    requests = 0
    delivered: list[int] = []
    dead: list[Dead] = []
    while batches := take(lane):
        for batch in batches:
            requests += 1
            is_invalid = 5 in numbers(batch)
            completion = fail(lane, batch, INVALID, status=400) if is_invalid else deliver(lane, batch)
            delivered += [item.number for item in completion.delivered]
            dead += completion.dead
    assert sorted(delivered) == [0, 1, 2, 3, 4, 6, 7]
    (only,) = dead
    assert (only.number, only.reason, only.message, only.status, only.attempts) == (5, "Status400", "invalid", 400, 4)
    assert requests <= 1 + 2 * 3
    assert lane.health == Health()


def test_a_request_that_was_too_large_lowers_the_limit_of_bytes() -> None:
    lane = make_lane(make_policy(10))
    lane.offer([make_item(number, size=100) for number in range(8)], NOW)
    fail(lane, take_one(lane), replace(INVALID, is_too_large=True), status=413)
    lane.offer([make_item(number, size=100) for number in range(8, 16)], NOW)
    assert {len(batch.items) for batch in take(lane)} == {4}


def test_a_failing_destination_pauses_and_gets_the_same_request() -> None:
    lane = make_lane(make_policy(2))
    lane.offer([make_item(number) for number in range(6)], NOW)
    first, second, third = take(lane)
    fail(lane, first, UNAVAILABLE, status=503)
    assert take(lane) == []
    assert lane.health.failing_since == NOW
    assert (lane.health.reason, lane.health.message, lane.health.status) == ("Status503", "maintenance", 503)
    wake_at = lane.wake_at()
    assert wake_at is not None
    assert wake_at == lane.health.paused_until
    assert NOW + 0.5 <= wake_at <= NOW + 1.5
    for batch in (second, third):
        deliver(lane, batch)
    key = first.key
    assert take(lane, wake_at) == [first]
    assert (first.attempt, first.key, numbers(first)) == (2, key, [0, 1])
    deliver(lane, first, wake_at)
    assert lane.health == Health()


def test_requests_under_way_count_as_one_outage() -> None:
    lane = make_lane(make_policy(1, scope="Event"))
    lane.offer([make_item(number) for number in range(4)], NOW)
    for batch in take(lane):
        fail(lane, batch, UNAVAILABLE)
    assert lane.health.failures == 4
    assert lane.health.paused_until is not None
    assert lane.health.paused_until <= NOW + 1.5


@pytest.mark.parametrize(
    ("requested", "earliest", "latest"),
    [(0.0, 0.5, 1.5), (-5.0, 0.5, 1.5), (60.0, 60.0, 60.0), (1e9, 3_600.0, 3_600.0), (float("nan"), 0.5, 1.5)],
)
def test_the_wait_that_a_destination_requests_is_a_minimum(requested: float, earliest: float, latest: float) -> None:
    lane = make_lane()
    lane.offer([make_item(1)], NOW)
    fail(lane, take_one(lane), replace(UNAVAILABLE, retry_after_seconds=requested), status=429)
    assert lane.health.paused_until is not None
    assert NOW + earliest <= lane.health.paused_until <= NOW + latest


def test_an_open_breaker_sends_one_request_as_a_probe() -> None:
    lane = make_lane(make_policy(1, scope="Event", max_concurrency=8))
    lane.offer([make_item(number) for number in range(8)], NOW)
    now = NOW
    for _ in range(6):
        for batch in take(lane, now):
            fail(lane, batch, UNAVAILABLE, now)
        now = lane.health.paused_until or now
    assert read_state(lane) is HealthState.OPEN
    probe = take_one(lane, now)
    assert read_state(lane) is HealthState.HALF_OPEN
    assert lane.next_batch(now + 1_000) is None
    deliver(lane, probe, now)
    assert lane.health == Health()
    assert len(take(lane, now)) == 1  # slowly at first


def test_health_outlives_a_restart() -> None:
    health = Health(state=HealthState.HALF_OPEN, failures=9, failing_since=NOW - 100, paused_until=NOW + 50)
    lane = make_lane(make_policy(1, scope="Event"), health=health)
    assert lane.wanted() == 0
    assert take(lane) == []
    assert lane.wake_at() == NOW + 50
    lane.expire(NOW + 50)
    assert lane.wanted() == 1
    lane.offer([make_item(1), make_item(2)], NOW + 50)
    assert numbers(take_one(lane, NOW + 50)) == [1]


def test_a_pause_is_bounded_although_the_clock_was_set_back() -> None:
    lane = make_lane(health=Health(state=HealthState.OPEN, failures=9, paused_until=NOW + 100_000))
    assert take(lane) == []
    assert lane.wake_at() == NOW + 3_600


def test_rejected_credentials_pause_until_they_are_renewed() -> None:
    lane = make_lane()
    lane.offer([make_item(1)], NOW)
    batch = take_one(lane)
    fail(lane, batch, UNAUTHORIZED, status=401)
    assert take(lane) == []
    lane.resume(NOW)
    assert take(lane) == [batch]
    fail(lane, batch, UNAUTHORIZED, status=401)
    assert take(lane) == []
    assert lane.wake_at() is not None


def test_a_result_from_before_the_credentials_were_renewed_pauses_nothing() -> None:
    lane = make_lane(make_policy(1, scope="Event"))
    lane.offer([make_item(1), make_item(2)], NOW)
    first, second = take(lane)
    fail(lane, first, UNAUTHORIZED, status=401)
    lane.resume(NOW)
    fail(lane, second, UNAUTHORIZED, status=401)
    assert take(lane) == [first, second]


def test_a_closed_destination_is_probed_once_an_hour() -> None:
    lane = make_lane()
    lane.offer([make_item(1)], NOW)
    batch = take_one(lane)
    fail(lane, batch, GONE, status=410)
    assert read_state(lane) is HealthState.REFUSING
    assert take(lane, NOW + 3_599) == []
    assert lane.wake_at() == NOW + 3_600
    assert take(lane, NOW + 3_600) == [batch]


def test_changed_settings_end_a_pause() -> None:
    lane = make_lane()
    lane.offer([make_item(1)], NOW)
    batch = take_one(lane)
    fail(lane, batch, GONE, status=410)
    lane.resume(NOW + 1)
    assert take(lane, NOW + 1) == [batch]


def test_a_limit_that_is_used_up_pauses_the_account() -> None:
    lane = make_lane(make_policy(1, scope="Event"))
    lane.offer([make_item(1), make_item(2, enqueued_at=NOW)], NOW)
    first, second = take(lane)
    lane.complete(first, succeeded([DELIVERED], 200, pause_seconds=30.0), NOW)
    deliver(lane, second)
    lane.offer([make_item(3)], NOW)
    assert take(lane) == []
    assert lane.wake_at() == NOW + 30
    assert lane.health == Health()


def test_rates_are_shared_by_the_lanes_of_an_account() -> None:
    limit = RateLimit(count=1, seconds=10.0)
    account = AccountRates()
    first, second = (make_lane(rates=[limit], account=account) for _ in range(2))
    first.offer([make_item(1)], NOW)
    second.offer([make_item(1)], NOW)
    take_one(first)
    assert take(second) == []
    assert second.wake_at() == NOW + 10
    take_one(second, NOW + 10)


def test_a_user_beyond_his_limit_does_not_hold_up_others() -> None:
    limit = RateLimit(count=1, seconds=10.0, unit="Event", per="User")
    lane = make_lane(rates=[limit], cold_seconds=60.0)
    lane.offer([make_item(1, 5, user="a"), make_item(2, 5, user="a"), make_item(3, 6, user="b")], NOW)
    batch = take_one(lane)
    assert numbers(batch) == [1, 3]
    deliver(lane, batch)
    assert take(lane) == []
    assert lane.wake_at() == NOW + 10
    assert numbers(take_one(lane, NOW + 10)) == [2]


def test_an_item_expires_without_being_sent() -> None:
    lane = make_lane(rates=[RateLimit(count=1, seconds=1e6)], expiry_seconds=100.0)
    lane.offer([make_item(number, enqueued_at=NOW) for number in (1,)], NOW)
    fail(lane, take_one(lane, NOW + 1), UNAVAILABLE, NOW + 1, status=503)
    lane.offer([make_item(2, enqueued_at=NOW + 1)], NOW + 2)
    assert lane.expire(NOW + 99) == []
    (dead,) = lane.expire(NOW + 100)
    assert (dead.number, dead.reason, dead.message, dead.status) == (1, EXPIRED, "Status503: maintenance", 503)
    assert dead.attempts == 1
    assert lane.wake_at() == NOW + 101
    assert [each.number for each in lane.expire(NOW + 101)] == [2]


def test_an_item_in_flight_does_not_expire() -> None:
    lane = make_lane(expiry_seconds=100.0)
    lane.offer([make_item(1, enqueued_at=NOW)], NOW)
    batch = take_one(lane, NOW + 99)
    assert lane.expire(NOW + 200) == []
    assert lane.wake_at() is None
    assert len(deliver(lane, batch, NOW + 200).delivered) == 1


def test_a_removed_item_frees_those_that_wait_for_it() -> None:
    lane = make_lane(make_policy(1, scope="Event"))
    lane.offer([make_item(1, 5), make_item(2, 5), make_item(3, 5)], NOW)
    first = take_one(lane)
    lane.remove([2, 99])
    assert take(lane) == []
    deliver(lane, first)
    assert numbers(take_one(lane)) == [3]


def test_an_item_that_is_removed_in_flight_is_not_sent_again() -> None:
    lane = make_lane(make_policy(2))
    lane.offer([make_item(1, 5), make_item(2, 6)], NOW)
    batch = take_one(lane)
    lane.remove([1])
    fail(lane, batch, UNAVAILABLE)
    assert numbers(take_one(lane, NOW + 10)) == [2]


def test_an_item_that_is_offered_again_in_flight_stays() -> None:
    lane = make_lane()
    lane.offer([make_item(1)], NOW)
    batch = take_one(lane)
    lane.remove([1])
    lane.offer([make_item(1)], NOW)
    fail(lane, batch, UNAVAILABLE)
    assert numbers(take_one(lane, NOW + 10)) == [1]


def test_a_batch_is_completed_once() -> None:
    lane = make_lane()
    lane.offer([make_item(1)], NOW)
    batch = take_one(lane)
    deliver(lane, batch)
    with pytest.raises(ValueError, match="not in flight"):
        deliver(lane, batch)


def test_a_result_for_too_few_items_is_a_failure() -> None:
    lane = make_lane()
    lane.offer([make_item(1)], NOW)
    batch = take_one(lane)
    assert lane.complete(batch, invalid_result(), NOW).delivered == ()
    assert lane.health.reason == "InvalidResult"
    assert take(lane, NOW + 10) == [batch]


# Documents in memory


def test_what_waits_for_long_is_cold_and_is_loaded_again() -> None:
    lane = make_lane(make_policy(1, scope="Event"))
    lane.offer([make_item(1, 5), make_item(2, 5), make_item(3, 5)], NOW)
    respond(lane, take_one(lane), retry("Throttled", after_seconds=60.0))
    assert (lane.figures.items, lane.figures.cold) == (0, 3)
    assert lane.reload() == []
    lane.expire(NOW + 60)
    assert lane.reload() == [1]
    assert lane.reload() == []
    lane.offer([make_item(1, 5)], NOW + 60)
    assert numbers(take_one(lane, NOW + 60)) == [1]


def test_the_items_that_follow_are_loaded_together() -> None:
    lane = make_lane(make_policy(3))
    lane.offer([make_item(number, 5) for number in range(5)], NOW)
    respond(lane, take_one(lane), *[retry("Throttled", after_seconds=60.0)] * 3)
    lane.expire(NOW + 60)
    assert lane.reload() == [0, 1, 2]
    lane.offer([make_item(number, 5) for number in range(3)], NOW + 60)
    assert numbers(take_one(lane, NOW + 60)) == [0, 1, 2]


def test_a_long_pause_drops_all_documents_but_those_of_requests() -> None:
    lane = make_lane(make_policy(2))
    lane.offer([make_item(number) for number in range(4)], NOW)
    first, second = take(lane)
    lane.offer([make_item(number) for number in range(4, 9)], NOW)
    fail(lane, first, replace(UNAVAILABLE, retry_after_seconds=60.0))
    assert (lane.figures.items, lane.figures.cold, lane.wanted()) == (4, 5, 0)
    deliver(lane, second)
    assert lane.reload() == []
    assert take(lane, NOW + 60) == [first]
    deliver(lane, first, NOW + 60)
    assert lane.reload() == [4, 5, 6, 7, 8]


def test_the_lane_wants_no_more_than_its_limits() -> None:
    lane = make_lane(max_items=10, max_cold_items=4)
    lane.offer([make_item(number, 5) for number in range(10)], NOW)
    assert lane.figures.items == 5  # the others wait, and are cold
    lane.offer([make_item(number, 5) for number in range(10, 20)], NOW)
    assert lane.figures.items == 5
    assert lane.wanted() == 0  # there are too many cold ones


def test_an_offer_beyond_the_limits_is_taken_once() -> None:
    lane = make_lane(make_policy(order="None"), max_items=10)
    lane.offer([make_item(number) for number in range(15)], NOW)
    assert (lane.figures.items, lane.wanted()) == (15, 0)
    lane.offer([make_item(number) for number in range(15, 20)], NOW)
    assert (lane.figures.items, lane.figures.cold) == (15, 5)


def test_an_item_that_expires_while_it_is_loaded_stays_dead() -> None:
    lane = make_lane(make_policy(1, scope="Event"), expiry_seconds=100.0)
    lane.offer([make_item(1, enqueued_at=NOW)], NOW)
    respond(lane, take_one(lane, NOW + 1), retry("Throttled", after_seconds=50.0), now=NOW + 1)
    lane.expire(NOW + 60)
    assert lane.reload() == [1]
    (dead,) = lane.expire(NOW + 100)
    assert (dead.number, dead.message) == (1, "Throttled")
    lane.offer([make_item(1, enqueued_at=NOW)], NOW + 100)
    assert take(lane, NOW + 101) == []


def test_limits_keep_all_requests_of_a_policy_full() -> None:
    assert LaneLimits.of(make_policy(1)).max_items == 1_000
    assert LaneLimits.of(make_policy(100, max_concurrency=16)).max_items == 3_200
    assert LaneLimits.of(make_policy(1_000, max_concurrency=16)).max_items == 10_000


# Order


@given(
    users=st.lists(st.sampled_from([(1, 10), (1, 11), (2, 10), (2,), (11,), (3, 12), ()]), max_size=40),
    max_events=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 10_000),
)
def test_items_that_share_a_key_are_sent_in_their_order(
    users: list[tuple[int, ...]], max_events: int, seed: int
) -> None:
    """Requests complete in any order, and items of them are delivered, rejected or retried."""
    random = Random(seed)
    lane = make_lane(make_policy(max_events), max_items=random.choice([4, 1_000]))
    items = [make_item(number, *keys) for number, keys in enumerate(users)]
    decided: set[int] = set()
    now, position, requests = NOW, 0, []
    while len(decided) < len(items):
        while position < len(items) and (wanted := lane.wanted()):
            lane.offer(items[position : position + wanted], now)
            position += wanted
        lane.offer([items[number] for number in sorted(lane.reload())], now)
        for batch in take(lane, now):
            requests.append(batch)
            sent = numbers(batch)
            for index, number in enumerate(sent):
                earlier = {each for each in range(number) if not set(users[each]).isdisjoint(users[number])}
                assert earlier <= decided | set(sent[:index])
        now += 10.0
        if requests:
            batch = requests.pop(random.randrange(len(requests)))
            results = [random.choice([DELIVERED, DELIVERED, rejected("Invalid"), retry("Locked")]) for _ in batch.items]
            completion = respond(lane, batch, *results, now=now)
            finished = [*(item.number for item in completion.delivered), *(each.number for each in completion.dead)]
            assert decided.isdisjoint(finished)
            decided.update(finished)
    assert lane.figures.items == lane.figures.cold == lane.figures.batches == 0
