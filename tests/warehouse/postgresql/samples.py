"""Random events and queries, and a model that evaluates queries on a list of events."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any, Final

import asyncpg

from headwater.filters import CheckedFilter, InvalidFilter, check_filter, parse_text
from headwater.schemas import EVENT_SCHEMA
from headwater.warehouse.conditions import document_test
from headwater.warehouse.contract import (
    CountKey,
    EventCount,
    EventCursor,
    EventPage,
    EventQuery,
    Interval,
    StoredEvent,
    Warehouse,
)

HOUR: Final = 3_600_000_000
DAY: Final = 24 * HOUR
NOW: Final = int(time.time()) * 1_000_000
HOUR_START: Final = NOW // HOUR * HOUR
TEXTS: Final = ("a", "b", "ab", "A", "é", "x/y", "😀", "10", 'q"', "%", "long" * 300)
PLANS: Final[tuple[Any, ...]] = ("pro", "free", "x/y", "é", 7, 7.0, "7", True, None, ["pro"], {"n": 1}, "\x00pro")


def events(random: Random, count: int, *, first: int = 1, workspaces: int = 2) -> list[StoredEvent]:
    """Return random events of a few days, with many equal times."""
    return [_event(random, position, workspaces) for position in range(first, first + count)]


def _event(random: Random, position: int, workspaces: int) -> StoredEvent:
    received_at = NOW - random.randrange(4) * DAY - random.randrange(6) * HOUR // 2 - random.randrange(3)
    if random.random() < 0.1:
        received_at -= random.randrange(3) * 200 * DAY  # before the first partition
    timestamp = received_at - random.choice((0, 0, 1, 2, HOUR, 3 * DAY))
    connection = random.randrange(1, 4)
    type = random.choice(("track", "track", "page", "identify"))
    event = random.choice(TEXTS) if type == "track" or random.random() < 0.1 else None
    user_id = random.choice((None, *TEXTS[:4]))
    anonymous_id = random.choice((None, *TEXTS[:6]))
    document = {
        "connectionId": connection,
        "type": type,
        "event": event,
        "userId": user_id,
        "anonymousId": anonymous_id,
        "messageId": f"m{position}",
        "timestamp": moment(timestamp),
        "receivedAt": moment(received_at),
        "properties": {"plan": random.choice(PLANS)} if random.random() < 0.8 else {},
        "traits": {},
    }
    if random.random() < 0.5:
        document["context"] = {"locale": random.choice(TEXTS), "page": {"title": random.choice(TEXTS)}}
    kept = {name: value for name, value in document.items() if value is not None}
    text = json.dumps(kept, ensure_ascii=random.random() < 0.5).encode()
    return StoredEvent(
        position,
        random.randrange(1, workspaces + 1),
        connection,
        9,
        timestamp,
        received_at,
        type,
        event,
        user_id,
        anonymous_id,
        text,
    )


def moment(microseconds: int) -> str:
    """Return a time in the form of documents."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(seconds))}.{rest:06}Z"


def query(random: Random) -> EventQuery:
    """Return a random query."""

    def sometimes(*values: Any) -> Any:
        return random.choice(values) if random.random() < 0.2 else None

    return EventQuery(
        workspace=random.randrange(1, 4),
        connections=sometimes((1,), (2, 3), (9,), ()),
        type=sometimes("track", "page", "alias"),
        event=sometimes(*TEXTS, "none"),
        user_id=sometimes(*TEXTS[:5]),
        anonymous_id=sometimes(*TEXTS[:6]),
        since=sometimes(
            NOW - DAY,
            NOW - 2 * DAY + 1,
            NOW // HOUR * HOUR - DAY,
            NOW // HOUR * HOUR - HOUR + 300_000_000,
            NOW - 300 * DAY,
        ),
        until=sometimes(NOW, NOW - DAY // 2, HOUR_START),
        filter=filter(random) if random.random() < 0.5 else None,
        order=random.choice(("timestamp", "receivedAt")),
    )


_OPERATORS: Final = (
    "is", "is not", "contains", "does not contain", "starts with", "ends with", "is one of", "is not one of",
    "is less than", "is greater than or equal to", "is between", "is not between", "is empty", "is not empty",
    "exists", "does not exist", "is true", "is null", "is not null", "is before", "is on or after",
)  # fmt: skip
_PATHS: Final = (
    "userId", "anonymousId", "event", "type", "connectionId", "timestamp", "receivedAt", "messageId",
    "properties.plan", "properties.plan.n", "properties", "context.locale", "context.page.title",
)  # fmt: skip


def filter(random: Random) -> CheckedFilter:
    """Return a random filter on the schema of events."""
    word = random.choice((" and ", " or "))
    conditions: list[str] = []
    while len(conditions) < random.choice((1, 1, 2, 3)):
        text = _condition(random)
        try:
            checked(text)
        except InvalidFilter:
            continue
        conditions.append(text)
    return checked(word.join(conditions))


def _condition(random: Random) -> str:
    path, operator = random.choice(_PATHS), random.choice(_OPERATORS)
    value: dict[str, Any] = {
        "connectionId": lambda: str(random.choice((1, 2, 2**40))),
        "type": lambda: random.choice(("track", "page")),
        "timestamp": lambda: moment(NOW - random.randrange(3) * DAY) if random.random() < 0.8 else "2024-01-01",
        "properties.plan": lambda: random.choice(("pro", "7", "x/y", "é", "free", "ro")),
    }
    value["receivedAt"] = value["timestamp"]
    make = value.get(path, lambda: random.choice(TEXTS[:-1]))
    count = {"is between": 2, "is not between": 2, "is one of": 3, "is not one of": 2}.get(operator, 1)
    if operator in ("exists", "does not exist") or operator.endswith(("empty", "true", "null")):
        return f"{path} {operator}"
    separator = " and " if "between" in operator else ", "
    return f"{path} {operator} {separator.join(json.dumps(make(), ensure_ascii=False) for _ in range(count))}"


def checked(text: str) -> CheckedFilter:
    """Return a filter from its text."""
    parsed = parse_text(text)
    assert parsed is not None
    return check_filter(parsed, EVENT_SCHEMA, role="Source", target="Event")


# --- The model ----------------------------------------------------------------------------------------------------


def place(event: StoredEvent, query: EventQuery) -> tuple[int, int]:
    """Return the sort key of an event in the query's order."""
    return (event.timestamp if query.order == "timestamp" else event.received_at), event.position


def expected(events: Sequence[StoredEvent], query: EventQuery, *, ascending: bool) -> list[StoredEvent]:
    """Return the events that meet the query, in its order."""
    test = None if query.filter is None else document_test(query.filter)

    def meets(event: StoredEvent) -> bool:
        time = place(event, query)[0]
        return (
            event.workspace == query.workspace
            and (query.connections is None or event.connection in query.connections)
            and (query.type is None or event.type == query.type)
            and (query.event is None or event.event == query.event)
            and (query.user_id is None or event.user_id == query.user_id)
            and (query.anonymous_id is None or event.anonymous_id == query.anonymous_id)
            and (query.since is None or time >= query.since)
            and (query.until is None or time < query.until)
            and (test is None or test(event.document))
        )

    return sorted(
        (event for event in events if meets(event)), key=lambda event: place(event, query), reverse=not ascending
    )


def expected_counts(
    events: Sequence[StoredEvent], query: EventQuery, by: Sequence[CountKey], interval: Interval | None
) -> set[EventCount]:
    """Return the counts of the events that meet the query."""
    length = {None: None, "hour": HOUR, "day": DAY}[interval]
    counts = Counter(
        (
            None if length is None else place(event, query)[0] // length * length,
            event.event if "event" in by else None,
            event.type if "type" in by else None,
            event.connection if "connection" in by else None,
        )
        for event in expected(events, query, ascending=True)
    )
    return {EventCount(count, *key) for key, count in counts.items()}


async def all_documents(
    warehouse: Warehouse, query: EventQuery, *, ascending: bool = False, limit: int = 100, offset: int = 0
) -> list[bytes]:
    """Return the documents of all pages."""
    found: list[bytes] = []
    cursor: EventCursor | None = None
    for _ in range(10_000):
        page: EventPage = await warehouse.events(query, ascending=ascending, after=cursor, offset=offset, limit=limit)
        assert len(page.documents) <= limit
        found += page.documents
        cursor, offset = page.cursor, page.offset
        if cursor is None:
            return found
    raise AssertionError("the pages have no end")


async def connect(url: str) -> "asyncpg.Connection[asyncpg.Record]":
    """Connect to the database directly, not through the warehouse."""
    return await asyncpg.connect(url.replace("+asyncpg", ""))
