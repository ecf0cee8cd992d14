"""The strategies for anonymous users: scripted journeys of visitors, seen in stored events and in identities.

Identities that share an id are one person. The documentation names the parts of a journey: A browses without a name, B
is logged in, C browses after the logout.
"""

from typing import Any

import pytest

from tests.e2e.source import Source, get, make_source
from tests.e2e.visitor import Visitor
from tests.system import HTTP, RunningSystem, wait_until

STRATEGIES = ("Conversion", "Fusion", "Isolation", "Preservation")
SEEN_WITHIN_SECONDS = 60.0


@pytest.fixture(params=["system", "postgresql_system"])
def server(request: pytest.FixtureRequest) -> RunningSystem:
    """Run every test of this file on both databases."""
    running: RunningSystem = request.getfixturevalue(request.param)
    return running


def people(source: Source) -> list[set[str]]:
    """Return the ids of each person: identities that share one are the same."""
    found: list[set[str]] = []
    for identity in source.identities():
        ids = {f"anonymous {id_}" for id_ in identity.get("anonymousIds", [])}
        ids |= {f"user {identity['userId']}"} if "userId" in identity else set()
        for other in [each for each in found if each & ids]:
            found.remove(other)
            ids |= other
        found.append(ids)
    return found


def person(source: Source, event: dict[str, Any]) -> int:
    """Return the number of the person that a stored event is about."""
    id_ = f"user {event['userId']}" if "userId" in event else f"anonymous {event['anonymousId']}"
    [found] = [number for number, ids in enumerate(people(source)) if id_ in ids]
    return found


def stored(source: Source, visitor: Visitor) -> list[dict[str, Any]]:
    """Return the stored events of a visitor in the order of sending, once all are there and applied to identities."""
    ids = [event["messageId"] for event in visitor.sent]

    def is_done() -> bool:
        found = {event["messageId"] for event in source.events()}
        return found >= set(ids) and all(_is_processed(source, id_) for id_ in ids)

    wait_until(is_done, SEEN_WITHIN_SECONDS)
    events = {event["messageId"]: event for event in source.events()}
    return [events[id_] for id_ in ids]


def _is_processed(source: Source, message_id: str) -> bool:
    traces = get(source.system, f"/v1/events/{message_id}/trace")["traces"]
    return all(trace["outcome"] == "Processed" for trace in traces) and bool(traces)


def same(events: list[dict[str, Any]], member: str) -> str:
    """Return a letter for each event: equal letters for equal values."""
    letters: dict[Any, str] = {}
    return "".join(letters.setdefault(event.get(member), chr(ord("A") + len(letters))) for event in events)


def sessions(events: list[dict[str, Any]]) -> str:
    return same([{"session": event["context"]["session"]["id"]} for event in events], "session")


@pytest.mark.parametrize(
    ("strategy", "parts", "anonymous_ids", "session_ids"),
    [
        ("Conversion", "AAB", "AAAABB", "AAAABB"),
        ("Fusion", "AAA", "AAAAAA", "AAAAAA"),
        ("Isolation", "ABC", "AABBCC", "AABBCC"),
        ("Preservation", "ABA", "AABBAA", "AABBAA"),
    ],
)
def test_browse_log_in_log_out_browse(
    server: RunningSystem, strategy: str, parts: str, anonymous_ids: str, session_ids: str
) -> None:
    source = make_source(server, connector="javascript", strategy=strategy)
    visitor = Visitor(source)
    assert visitor.strategy == strategy
    visitor.page("Home")
    visitor.page("Prices")
    visitor.identify("u-1", email="ada@example.com")
    visitor.track("Order Completed")
    visitor.reset()
    visitor.page("Home")
    visitor.page("Help")
    events = stored(source, visitor)
    assert [event.get("userId") for event in events] == [None, None, "u-1", "u-1", None, None]
    assert same(events, "anonymousId") == anonymous_ids
    assert sessions(events) == session_ids
    starts = [event["context"]["session"].get("start", False) for event in events]
    assert starts.count(True) == len(set(session_ids)), "each session starts once"
    numbers = [person(source, events[index]) for index in (0, 3, 5)]
    assert same([{"person": number} for number in numbers], "person") == parts
    assert len(people(source)) == len(set(parts))


@pytest.mark.parametrize(
    ("strategy", "anonymous_traits"),
    [("Conversion", {"plan": "free"}), ("Fusion", {"plan": "free"}), ("Isolation", {}), ("Preservation", {})],
)
def test_traits_and_groups_of_a_login(server: RunningSystem, strategy: str, anonymous_traits: dict[str, Any]) -> None:
    source = make_source(server, connector="javascript", strategy=strategy)
    visitor = Visitor(source)
    visitor.traits["plan"] = "free"
    visitor.group("g-1")
    visitor.identify("u-1", email="ada@example.com")
    visitor.identify("u-1", name="Ada")
    visitor.reset()
    visitor.page("Home")
    events = stored(source, visitor)
    assert events[1]["traits"] == {**anonymous_traits, "email": "ada@example.com"}
    assert events[2]["traits"] == {**events[1]["traits"], "name": "Ada"}
    assert events[2]["anonymousId"] == events[1]["anonymousId"], "the same user keeps the ids"
    assert visitor.traits == ({"plan": "free"} if strategy == "Preservation" else {})


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_another_user_is_another_person(server: RunningSystem, strategy: str) -> None:
    """Users who replace each other in one browser are two people under every strategy."""
    source = make_source(server, connector="javascript", strategy=strategy)
    visitor = Visitor(source)
    visitor.identify("u-1", email="ada@example.com")
    visitor.track("Order Completed")
    visitor.identify("u-2", email="bob@example.com")
    visitor.track("Order Completed")
    events = stored(source, visitor)
    assert same(events, "anonymousId") == "AABB"
    assert [person(source, event) for event in events] == [person(source, events[0])] * 2 + [
        person(source, events[2])
    ] * 2
    assert len(people(source)) == 2
    assert events[2]["traits"] == {"email": "bob@example.com"}


@pytest.mark.parametrize(
    ("strategy", "parts"),
    [("Conversion", "AABBC"), ("Fusion", "AAAAA"), ("Isolation", "ABCDE"), ("Preservation", "ABACA")],
)
def test_two_people_share_a_browser(server: RunningSystem, strategy: str, parts: str) -> None:
    """With a logout between them, only Fusion keeps the anonymous id, and so joins the two."""
    source = make_source(server, connector="javascript", strategy=strategy)
    visitor = Visitor(source)
    visitor.page("Home")
    visitor.identify("u-1")
    visitor.reset()
    visitor.page("Home")
    visitor.identify("u-2")
    visitor.reset()
    visitor.page("Home")
    events = stored(source, visitor)
    numbers = [person(source, event) for event in events]
    assert same([{"person": number} for number in numbers], "person") == parts


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_full_reset_forgets_everything(server: RunningSystem, strategy: str) -> None:
    source = make_source(server, connector="javascript", strategy=strategy)
    visitor = Visitor(source)
    visitor.page("Home")
    visitor.identify("u-1")
    visitor.reset(all_=True)
    visitor.page("Home")
    visitor.reset()
    events = stored(source, visitor)
    assert events[2]["anonymousId"] not in {events[0]["anonymousId"], events[1]["anonymousId"]}
    assert sessions(events)[2] not in sessions(events)[:2]
    assert person(source, events[2]) not in {person(source, events[0]), person(source, events[1])}


def test_a_change_of_the_strategy_reaches_new_pages(server: RunningSystem) -> None:
    source = make_source(server, connector="javascript", strategy="Conversion")
    for strategy in STRATEGIES:
        body = {"name": "Shop", "strategy": strategy}
        path = f"{server.base_url}/v1/connections/{source.id}"
        assert HTTP.put(path, json=body, headers=server.authorization, timeout=30).status_code == 200
        wait_until(lambda: Visitor(source).strategy == strategy, SEEN_WITHIN_SECONDS)  # noqa: B023  # called at once
