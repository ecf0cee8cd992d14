"""Bugs that the simulation must find: each replaces one piece of the lane core, or of the courier's model."""

from collections.abc import Callable, Iterable
from typing import Final

import pytest

from headwater.connectors.contract import Failure
from headwater.delivery import backoff
from headwater.delivery.batching import Batch, Batcher
from headwater.delivery.breaker import Breaker
from headwater.delivery.items import HEALTHY, LaneItem
from headwater.delivery.lane import Lane
from headwater.delivery.ordering import BUSY, Entry, Ordering
from headwater.delivery.rates import Rates
from headwater.delivery.window import Window
from tests.delivery.simulation import courier
from tests.delivery.simulation.courier import Courier
from tests.delivery.simulation.store import Commit, Delivery, Store

Bug = Callable[[pytest.MonkeyPatch], None]
BUGS: Final[dict[str, Bug]] = {}
RARE: Final = {
    "changes_the_key_of_a_resent_event": 230,
    "drops_a_commit_on_a_full_disk": 85,
    "gives_up_a_removed_item_that_is_offered_again": 130,
}
"""Bugs that few runs find, with the seed from which to search for them."""


def bug(plant: Bug) -> Bug:
    """Add a bug by its name."""
    BUGS[plant.__name__] = plant
    return plant


@bug
def acknowledges_before_the_response(patch: pytest.MonkeyPatch) -> None:
    check = Courier._check_sending

    def acknowledge(self: Courier, destination: courier.Destination, batch: Batch) -> None:
        check(self, destination, batch)
        for item in batch.items:
            self.pending.delivered[item.number] = destination.known[item.number]

    patch.setattr(Courier, "_check_sending", acknowledge)


@bug
def orders_by_the_first_key_only(patch: pytest.MonkeyPatch) -> None:
    create = Entry.__init__

    def init(self: Entry, item: LaneItem) -> None:
        create(self, item)
        self.order_keys = item.order_keys[:1]

    patch.setattr(Entry, "__init__", init)


@bug
def ignores_retry_after(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(backoff, "wait", lambda delay, requested: delay)


@bug
def forgets_an_item_to_be_retried(patch: pytest.MonkeyPatch) -> None:
    def delay(self: Lane, entry: Entry, now: float) -> None:
        self._release_all(self._finish(entry), now)

    patch.setattr(Lane, "_delay", delay)


@bug
def checks_no_epoch(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Store, "check_owner", lambda self, epoch: None)


@bug
def loses_the_odd_item_of_a_half(patch: pytest.MonkeyPatch) -> None:
    dissolve = Lane._dissolve

    def lose(self: Lane, batch: Batch) -> None:
        batch.entries = batch.entries[: len(batch.entries) // 2 * 2]
        dissolve(self, batch)

    patch.setattr(Lane, "_dissolve", lose)


@bug
def keeps_followers_of_a_full_batch(patch: pytest.MonkeyPatch) -> None:
    form = Batcher.form

    def keep(self: Batcher, now: float) -> tuple[list[Entry], list[Entry]]:
        entries, postponed = form(self, now)
        for entry in entries:
            for follower in entry.followers:
                if follower.state != BUSY:
                    follower.waits -= 1
        return entries, postponed

    patch.setattr(Batcher, "form", keep)


@bug
def frees_the_followers_of_an_item_that_waits(patch: pytest.MonkeyPatch) -> None:
    finish = Ordering.finish

    def free(self: Ordering, entry: Entry) -> list[Entry]:
        entry.waits = 0
        return finish(self, entry)

    patch.setattr(Ordering, "finish", free)


@bug
def probes_with_many_requests(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Breaker, "send", lambda self: None)


@bug
def never_closes_the_breaker(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Breaker, "succeed", lambda self, era, now: False)


@bug
def changes_the_key_of_a_resent_event(patch: pytest.MonkeyPatch) -> None:
    prepare = Courier._prepare

    def change(self: Courier, delivery: Delivery, enqueued_at: float) -> LaneItem:
        key = delivery.key
        if delivery.is_resent:
            delivery.key = f"{key}-again"
        item = prepare(self, delivery, enqueued_at)
        delivery.key = key
        return item

    patch.setattr(Courier, "_prepare", change)


@bug
def never_expires(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Lane, "expire", lambda self, now: self._advance(now) or [])


@bug
def spends_no_rate(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rates, "spend", lambda self, events, now, route: None)


@bug
def spends_no_rate_of_a_user(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Rates, "spend_user", lambda self, user, events, now, is_in_request: None)


@bug
def forgets_a_kept_batch(patch: pytest.MonkeyPatch) -> None:
    def forget(self: Lane, batch: Batch, failure: Failure, status: int | None, now: float) -> None:
        self._breaker.fail(failure, status, batch.era, now)

    patch.setattr(Lane, "_keep", forget)


@bug
def forgets_health_over_a_restart(patch: pytest.MonkeyPatch) -> None:
    create = Breaker.__init__
    patch.setattr(Breaker, "__init__", lambda self, random, health: create(self, random, HEALTHY))


@bug
def loads_only_the_first_of_the_requested(patch: pytest.MonkeyPatch) -> None:
    request = Window.request
    patch.setattr(Window, "request", lambda self, room, ahead, now: request(self, room, ahead, now)[:1])


@bug
def drops_a_commit_on_a_full_disk(patch: pytest.MonkeyPatch) -> None:
    def drop(self: Courier, commit: Commit) -> None:
        self._is_flushing = False
        self._flush_soon()

    patch.setattr(Courier, "_flush_again", drop)


@bug
def releases_what_waits_for_a_delayed_item(patch: pytest.MonkeyPatch) -> None:
    delay = Lane._delay

    def release(self: Lane, entry: Entry, now: float) -> None:
        for follower in entry.followers:
            follower.waits -= 1
        followers = [each for each in entry.followers if not each.waits]
        entry.followers = ()
        delay(self, entry, now)
        self._release_all(followers, now)

    patch.setattr(Lane, "_delay", release)


@bug
def keeps_all_documents(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Window, "is_full", lambda self: False)
    patch.setattr(Window, "is_crowded", lambda self, waiting: False)
    patch.setattr(Window, "room", lambda self: 1_000)


@bug
def gives_up_a_removed_item_that_is_offered_again(patch: pytest.MonkeyPatch) -> None:
    def offer(self: Lane, items: Iterable[LaneItem], now: float) -> None:
        offered = list(items)
        removed = [entry for item in offered if (entry := self._window.entries.get(item.number)) and entry.is_removed]
        original(self, offered, now)
        for entry in removed:
            entry.is_removed = True

    original = Lane.offer
    patch.setattr(Lane, "offer", offer)


@bug
def resumes_a_pipeline_without_its_items(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Courier, "enable", lambda self, number: self.pump(number))
