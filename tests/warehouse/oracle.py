"""Events to store, and a warehouse that is a plain list: the reference for every driver."""

from collections import Counter
from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw

from headwater.base.clock import from_microseconds, microseconds
from headwater.events.record import document_record
from headwater.filters import CheckedFilter, Condition, Filter, check_filter, compile_filter
from headwater.schemas import EVENT_SCHEMA
from headwater.warehouse import (
    CountKey,
    EventCount,
    EventCursor,
    EventPage,
    EventQuery,
    Interval,
    StoredEvent,
    Warehouse,
)
from tests.harness import NOW

START: Final = microseconds(NOW)
MINUTE: Final = 60_000_000
HOUR: Final = 60 * MINUTE
DAY: Final = 24 * HOUR
WORKSPACES: Final = (1, 2)
CONNECTIONS: Final = (11, 12, 13)
NAMES: Final = ("Bought", "Viewed", "a'b\"c", "Ünïcode 😀")
USERS: Final = ("u1", "u2", "u3", "", "Ü", "x" * 100)
ANONYMOUS: Final = ("a1", "u1", "a3")

Shape = Literal["in time", "equal", "spread", "future"]
SHAPES: Final[tuple[Shape, ...]] = ("in time", "equal", "spread", "future")


def event(position: int, **members: Any) -> StoredEvent:
    """Return an event. Members that are not given have a value that depends only on the position."""
    values: dict[str, Any] = {
        "workspace": 1,
        "connection": 11,
        "pipeline": 21,
        "timestamp": START + position * 1_000,
        "received_at": START + position * 1_000 + 500,
        "type": "track",
        "event": "Bought",
        "user_id": "u1",
        "anonymous_id": None,
        "total": position,
    } | members
    total = values.pop("total")
    document = {
        "connectionId": values["connection"],
        "messageId": f"m{position}",
        "type": values["type"],
        "event": values["event"],
        "userId": values["user_id"],
        "anonymousId": values["anonymous_id"],
        "timestamp": _text(values["timestamp"]),
        "receivedAt": _text(values["received_at"]),
        "properties": {"total": total, "even": total % 2 == 0},
        "context": {"ip": "203.0.113.7", "unknown": {}},
    }
    shown = {name: value for name, value in document.items() if value is not None}
    return StoredEvent(position=position, document=msgspec.json.encode(shown), **values)


def random_events(random: Random, first: int, number: int, shape: Shape) -> list[StoredEvent]:
    """Return events with increasing positions from `first` on, whose times have this shape."""
    events = []
    position = first
    for _ in range(number):
        received = START + position * 700_000 + random.randrange(3) * MINUTE
        delay = {
            "in time": random.randrange(MINUTE),
            "equal": received - START,
            "spread": random.randrange(40 * DAY),
            "future": -random.randrange(3 * DAY),
        }[shape if random.random() < 0.98 else random.choice(SHAPES)]
        kind = random.choice(("track", "track", "page", "identify"))
        events.append(
            event(
                position,
                workspace=random.choice((1, 1, 1, 1, 2)),
                connection=random.choice(CONNECTIONS),
                pipeline=random.randrange(3),
                timestamp=received - delay,
                received_at=received,
                type=kind,
                event=random.choice(NAMES) if kind == "track" else None,
                user_id=random.choice((*USERS, None, f"rare-{random.randrange(500)}")),
                anonymous_id=random.choice((*ANONYMOUS, None)),
                total=random.randrange(-5, 100),
            )
        )
        position += random.choice((1, 1, 1, 1, 7))
    return events


def condition(text: str, logical: str = "and") -> CheckedFilter:
    """Return a filter: conditions `property|operator|value|…`, separated by semicolons."""
    parts = [each.split("|") for each in text.split(";")]
    conditions = tuple(Condition(name, operator, tuple(values)) for name, operator, *values in parts)
    return check_filter(Filter(logical, conditions), EVENT_SCHEMA, role="Source", target="Event")


FILTERS: Final = (
    condition("type|is|track"),
    condition("event|is|Bought;userId|is|u1"),
    condition("event|is|Bought;event|is|Viewed"),
    condition("connectionId|is|12;properties.total|is greater than|50"),
    condition("anonymousId|is|u1;properties.even|is true"),
    condition("event|is|Bought;properties.total|is less than|10", "or"),
    condition("userId|is not|u1"),
    condition("event|does not exist"),
    condition("properties.total|is one of|3|4|5"),
    condition("context.ip|is|203.0.113.7;messageId|starts with|m1"),
)


def random_query(random: Random) -> EventQuery:
    """Return a query with random members."""

    def maybe(value: Any) -> Any:
        return value if random.random() < 0.3 else None

    since = START + random.randrange(-2 * DAY, 3 * HOUR)
    since -= since % HOUR if random.random() < 0.3 else 0
    return EventQuery(
        workspace=random.choice((1, 1, 2, 3)),
        connections=maybe(random.choice(((11,), (11, 13), (), (99,)))),
        type=maybe(random.choice(("track", "page", "group"))),
        event=maybe(random.choice((*NAMES, "none"))),
        user_id=maybe(random.choice((*USERS, "rare-7", "none"))),
        anonymous_id=maybe(random.choice((*ANONYMOUS, "none"))),
        since=maybe(since),
        until=maybe(since + random.choice((0, 1, MINUTE, HOUR, 7 * HOUR, 50 * DAY))),
        filter=maybe(random.choice(FILTERS)),
        order=random.choice(("timestamp", "receivedAt")),
    )


class Oracle:
    """A warehouse in a list."""

    def __init__(self) -> None:
        self.stored: list[StoredEvent] = []
        self.through = 0

    def load(self, events: Iterable[StoredEvent], *, through: int) -> None:
        if through > self.through:
            self.stored += [event for event in events if event.position > self.through]
            self.through = through

    def selected(self, query: EventQuery) -> list[StoredEvent]:
        """Return the events that meet the query, ascending."""
        passes = None if query.filter is None else compile_filter(query.filter)
        found = []
        for event in self.stored:
            time = find_time(query, event)
            if (
                event.workspace == query.workspace
                and (query.connections is None or event.connection in query.connections)
                and (query.type is None or event.type == query.type)
                and (query.event is None or event.event == query.event)
                and (query.user_id is None or event.user_id == query.user_id)
                and (query.anonymous_id is None or event.anonymous_id == query.anonymous_id)
                and (query.since is None or time >= query.since)
                and (query.until is None or time < query.until)
                and (passes is None or passes(document_record(_members(event.document))))
            ):
                found.append(event)
        return sorted(found, key=lambda event: (find_time(query, event), event.position))

    def documents(self, query: EventQuery, *, ascending: bool) -> list[bytes]:
        found = [event.document for event in self.selected(query)]
        return found if ascending else found[::-1]

    def counts(self, query: EventQuery, *, by: Sequence[CountKey], interval: Interval | None) -> list[EventCount]:
        length = {"hour": HOUR, "day": DAY, None: None}[interval]
        groups = Counter(
            (
                None if length is None else find_time(query, event) // length * length,
                event.event if "event" in by else None,
                event.type if "type" in by else None,
                event.connection if "connection" in by else None,
            )
            for event in self.selected(query)
        )
        return [EventCount(count, *group) for group, count in groups.items()]


def find_time(query: EventQuery, event: StoredEvent) -> int:
    """Return the time that the query orders by."""
    return event.timestamp if query.order == "timestamp" else event.received_at


class _Identified(msgspec.Struct, rename="camel"):
    message_id: str | None = None


_decode_identified: Final = msgspec.json.Decoder(_Identified).decode


async def read_all(
    warehouse: Warehouse,
    query: EventQuery,
    *,
    ascending: bool = False,
    after: EventCursor | None = None,
    offset: int = 0,
    limit: int = 1_000,
) -> list[bytes]:
    """Return the documents of all pages."""
    documents: list[bytes] = []
    while True:
        page = await warehouse.events(query, ascending=ascending, after=after, offset=offset, limit=limit)
        assert len(page.documents) <= limit
        assert page.cursor is None or page.cursor != after, "the page has come further"
        documents += page.documents
        assert len(page.positions) == len(page.documents)
        for position, document in zip(page.positions, page.documents, strict=True):
            assert _decode_identified(document).message_id in (None, f"m{position}")
        if page.cursor is None:
            return documents
        after, offset = page.cursor, page.offset


async def read_page(
    warehouse: Warehouse, query: EventQuery, *, limit: int, after: EventCursor | None = None, ascending: bool = False
) -> EventPage:
    """Return a page of `limit` events, or of all if there are fewer, as if a page had no limit of work."""
    documents: list[bytes] = []
    while True:
        page = await warehouse.events(query, ascending=ascending, after=after, offset=0, limit=limit - len(documents))
        documents += page.documents
        after = page.cursor
        if after is None or len(documents) == limit:
            return EventPage(tuple(documents), after)


def _text(time: int) -> str:
    return from_microseconds(time).isoformat().replace("+00:00", "Z")


_members = msgspec.json.Decoder(dict[str, Raw]).decode
