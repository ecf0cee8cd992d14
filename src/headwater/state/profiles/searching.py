"""Finds profiles by conditions on their attributes, in an order.

If few profiles can meet a filter, `profile_values` has them: these profiles are read, tested and sorted. If they are
some thousands, only their places in the list are read and sorted, and then profiles in this order until the page is
full. Otherwise all profiles are read in the order of the list and tested, until the page is full. A page takes a
fraction of a second with a million profiles. It takes seconds if a filter that selects nearly none has no condition
that values can decide, such as that a number with a fraction is not another.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import ColumnElement, Connection, Select, String, case, exists, func, select, tuple_, type_coerce, union

from headwater.filters import CheckedFilter
from headwater.filters.validation import CheckedCondition
from headwater.schemas import Path, Type
from headwater.state import bulk
from headwater.state.profiles import conditions, tables, values
from headwater.state.profiles.conditions import Test
from headwater.state.profiles.model import LinkValue, ProfileRow
from headwater.state.profiles.rows import PROFILE_COLUMNS, ProfileRows, read_profile

MAX_CANDIDATES: Final = 20_000
"""Maximum number of profiles whose places are read to sort them."""
PROFILES_PER_CANDIDATE: Final = 30
"""If at least one of so many profiles can meet the filter, a page is full soon, and no places are sorted."""
MAX_TESTED: Final = 5_000
"""Maximum number of profiles that are all read and tested. Of more, the total is an estimate."""
SAMPLE: Final = 1_000
"""Number of values of a property that are read to estimate how many meet a condition."""
_ROWS_PER_STEP: Final = 1_000
"""Number of profiles that are tested without a pause: 5 ms of the event loop."""
_MIN_ROWS_PER_STEP: Final = 50
_MIN_PLACES: Final = 2_000
"""Number of places that the first query for places in the order of a property returns. The next ones return more."""
_MAX_PLACES: Final = 100_000
"""Maximum number of places that are kept: some 15 MB."""


class Order(Struct, frozen=True):
    """A sortable property to order by. Strings are compared by their first `values.MAX_TEXT` characters, and numbers as
    doubles, except integers of 64 bits. Profiles without the property come last."""

    path: Path
    type: Type


class ProfileCursor(Struct, frozen=True, array_like=True):
    """A place in a list of profiles, after one of them."""

    id: int
    updated_at: int
    key: str | None = None
    """The sort key of the property to order by; None without one, or for a profile that does not have it."""


class ProfilePage(Struct, frozen=True):
    """A part of a list of profiles."""

    profiles: list[ProfileRow]
    total: int
    """Number of profiles that meet the filter, at least the number of those found."""
    is_estimate: bool
    """Whether the total was computed from a part of the profiles."""
    next: ProfileCursor | None
    """The place where the list continues; None at its end."""


class Search(Struct, frozen=True):
    """A part of a list of profiles to find."""

    workspace: int
    filter: CheckedFilter | None = None
    order: Order | None = None
    """None for the time of the last change."""
    descending: bool = True
    first: int = 0
    """Number of profiles to skip."""
    limit: int = 100
    after: ProfileCursor | None = None
    identifiers: tuple[str, ...] = ()
    """The paths of the identifiers, in their order. A condition that an identifier equals a value takes the same time
    in a workspace of any size."""
    digest: str = ""
    """The digest of the settings with these identifiers. They are used only while the links follow these settings."""


_Found = tuple[ProfileRow, ProfileCursor]
_profiles: Final = tables.profiles.c


def _text(column: ColumnElement[Any]) -> ColumnElement[str]:
    """Return a column as a text whose literals have no collation: PostgreSQL's BETWEEN cannot have them."""
    return type_coerce(column, String())


_value: Final = _text(tables.profile_values.c.value)


def search(connection: Connection, search: Search) -> ProfilePage:
    """Return a part of a list of profiles."""
    if search.filter is None:
        found = _ordered(connection, search, search.after, search.limit + 1, search.first)
        return _page(search, found, count(connection, search.workspace), is_estimate=False)
    test = conditions.compile_test(search.filter)
    candidates = _linked(connection, search, search.filter)
    if candidates is None:
        candidates = _candidates(connection, search.workspace, search.filter)
    if candidates is None:
        return _scan(connection, search, test)
    return _choose(connection, search, test, candidates)


def count(connection: Connection, workspace: int) -> int:
    """Return the number of profiles of a workspace."""
    table = tables.profile_counts.c
    found: int | None = connection.scalar(select(table.profiles).where(table.workspace == workspace))
    return found or 0


def _page(search: Search, found: list[_Found], total: int, *, is_estimate: bool) -> ProfilePage:
    """Return the page that begins with the profiles found, and ends before those that are too many."""
    page = found[: search.limit]
    following = page[-1][1] if page and len(found) > search.limit else None
    return ProfilePage([row for row, _ in page], total, is_estimate, following)


def _property(workspace: int, path: Path) -> int:
    return values.property_key(workspace, ".".join(path))


# --- From candidates ------------------------------------------------------------------------------------------------


def _linked(connection: Connection, search: Search, filter: CheckedFilter) -> list[int] | None:
    """Return the profiles of the identities that have the value of an identifier that the filter requires; None if
    links cannot decide: a blocked value has none."""
    if filter.logical == "or" and len(filter.conditions) > 1:
        return None
    rows = ProfileRows(connection)
    if not search.identifiers or rows.applied(search.workspace) != search.digest:
        return None
    for condition in filter.conditions:
        path, texts = ".".join(condition.path), conditions.link_text(condition)
        if texts is None or path not in search.identifiers:
            continue
        wanted = {LinkValue(search.identifiers.index(path), text) for text in texts}
        holders = rows.holders(search.workspace, wanted, MAX_CANDIDATES)
        identities = {identity for found in holders.values() for identity, _ in found}
        if len(holders) == len(wanted) and len(identities) <= MAX_CANDIDATES:
            return list({member.profile for member in rows.members(identities)})
    return None


def _candidates(connection: Connection, workspace: int, filter: CheckedFilter) -> list[int] | None:
    """Return the profiles that can meet the filter; None if they are too many, or all."""
    most = min(MAX_CANDIDATES, max(MAX_TESTED, count(connection, workspace) // PROFILES_PER_CANDIDATE))
    is_sqlite = connection.dialect.name == "sqlite"
    narrowed = [(each, conditions.narrow(each, _value, is_sqlite=is_sqlite)) for each in filter.conditions]
    known = [(each, condition) for each, condition in narrowed if condition is not None]
    if not known and filter.logical == "and":
        return _without(connection, workspace, filter, most)
    if not known or (filter.logical == "or" and len(known) < len(narrowed)):
        return None
    if filter.logical == "or":
        parts = [_meeting(workspace, each, condition).limit(most + 1) for each, condition in known]
        query: Any = union(*(select(part.subquery().c.profile) for part in parts))
    else:
        if len(known) > 1:
            known.sort(key=lambda pair: _frequency(connection, workspace, *pair))
        query = _meeting(workspace, *known[0])
        for each, _ in known[1:]:
            query = query.where(_also(workspace, each, is_sqlite=is_sqlite))
        query = query.limit(most + 1)
    found = list(connection.scalars(query))
    return found if len(found) <= most else None


def _frequency(
    connection: Connection, workspace: int, condition: CheckedCondition, narrowed: ColumnElement[bool]
) -> float:
    """Return the part of the oldest values of a property that meets a condition."""
    table = tables.profile_values.c
    some = select(table.value).where(table.property == _property(workspace, condition.path)).limit(SAMPLE)
    sample = some.order_by(table.profile).with_only_columns(case((narrowed, 1), else_=0).label("is_met")).subquery()
    number, met = connection.execute(select(func.count(), func.sum(sample.c.is_met)).select_from(sample)).one()
    return float((met or 0) / max(number, 1))


def _without(connection: Connection, workspace: int, filter: CheckedFilter, most: int) -> list[int] | None:
    """Return the profiles that can meet the first negated condition: those with another value, and those without any;
    None if they are more than `most`."""
    for condition in filter.conditions:
        narrowed = conditions.narrow_negated(condition, _value)
        if narrowed is None:
            continue
        found = list(connection.scalars(_meeting(workspace, condition, narrowed).limit(most + 1)))
        if len(found) > most:
            return None
        key = _property(workspace, condition.path)
        present = select(func.count()).select_from(tables.profile_values).where(tables.profile_values.c.property == key)
        missing = count(connection, workspace) - int(connection.execute(present).scalar_one())
        if missing > most - len(found):
            return None
        if missing:
            query = select(_profiles.id).where(_profiles.workspace == workspace, _has_no(key))
            found += connection.scalars(query.limit(most + 1))
        return found if len(found) <= most else None
    return None


def _has_no(property: int) -> ColumnElement[bool]:
    """Return the condition that a profile has no value of a property."""
    table = tables.profile_values.c
    same = (table.property == property, table.profile == _profiles.id)
    return ~exists(select(1).select_from(tables.profile_values).where(*same))


def _meeting(workspace: int, condition: CheckedCondition, narrowed: ColumnElement[bool]) -> Select[Any]:
    table = tables.profile_values.c
    return select(table.profile).where(table.property == _property(workspace, condition.path), narrowed)


def _also(workspace: int, condition: CheckedCondition, *, is_sqlite: bool) -> ColumnElement[bool]:
    other = tables.profile_values.alias()
    narrowed = conditions.narrow(condition, _text(other.c.value), is_sqlite=is_sqlite)
    assert narrowed is not None, "the condition was narrowed before"
    same = (
        other.c.property == _property(workspace, condition.path),
        other.c.profile == tables.profile_values.c.profile,
    )
    return exists(select(1).select_from(other).where(*same, narrowed))


def _choose(connection: Connection, search: Search, test: Test, candidates: list[int]) -> ProfilePage:
    """Return the part of the list from all profiles that can be in it."""
    if len(candidates) > MAX_TESTED:
        return _choose_in_order(connection, search, test, candidates)
    found: dict[ProfileCursor, ProfileRow] = {}
    for row in _read(connection, search, sorted(candidates)):
        if test(row.attributes):
            found[_cursor(search, row)] = row
    listed = _sort(search, found)[search.first :]
    return _page(search, [(found[cursor], cursor) for cursor in listed], len(found), is_estimate=False)


def _choose_in_order(connection: Connection, search: Search, test: Test, candidates: list[int]) -> ProfilePage:
    """Return the part of the list by testing these profiles in its order, until it is full."""
    places = _sort(search, _places(connection, search, sorted(candidates)))
    wanted, found, tested, sizes = search.first + search.limit + 1, list[_Found](), 0, _sizes(search)
    while tested < len(places) and len(found) < wanted:
        some = places[tested : tested + next(sizes)]
        rows = {row.id: row for row in _read(connection, search, [place.id for place in some])}
        tested += len(some)
        found += [(row, place) for place in some if (row := rows.get(place.id)) is not None and test(row.attributes)]
    is_estimate = tested < len(candidates)
    total = max(len(found), round(len(found) / max(tested, 1) * len(candidates)))
    return _page(search, found[search.first :], total, is_estimate=is_estimate)


def _read(connection: Connection, search: Search, ids: list[int]) -> Iterator[ProfileRow]:
    """Yield the profiles with these ids."""
    for some in bulk.chunks(ids, _ROWS_PER_STEP):
        rows = bulk.lookup(connection, PROFILE_COLUMNS, (_profiles.id,), ((id_,) for id_ in some))
        yield from (row for row in map(read_profile, rows) if row.workspace == search.workspace)


def _places(connection: Connection, search: Search, ids: list[int]) -> list[ProfileCursor]:
    """Return the places of these profiles."""
    wanted = [(id_,) for id_ in ids]
    times = bulk.lookup(connection, (_profiles.id, _profiles.updated_at), (_profiles.id,), wanted)
    if search.order is None:
        return [ProfileCursor(id_, updated_at) for id_, updated_at in times]
    table, property, type_ = tables.profile_values.c, _property(search.workspace, search.order.path), search.order.type
    key = (table.property, table.profile)
    keys = dict(
        map(tuple, bulk.lookup(connection, (table.profile, table.value), key, [(property, id_) for id_ in ids]))
    )
    return [
        ProfileCursor(id_, updated_at, None if (value := keys.get(id_)) is None else conditions.sort_key(type_, value))
        for id_, updated_at in times
    ]


def _sort(search: Search, places: Iterable[ProfileCursor]) -> list[ProfileCursor]:
    """Return those of the places that are after that of the search, in the order of the list."""
    order, descending = search.order, search.descending

    def key(place: ProfileCursor) -> tuple[bool, Any, int]:
        if order is None or place.key is None:
            return order is not None and not descending, place.updated_at, place.id
        return descending, conditions.comparable(order.type, place.key), place.id

    after = None if search.after is None else key(search.after)
    if after is not None:
        places = [place for place in places if (key(place) < after if descending else key(place) > after)]
    return sorted(places, key=key, reverse=descending)


def _cursor(search: Search, row: ProfileRow) -> ProfileCursor:
    key = None
    if search.order is not None:
        value = values.read_values(row.workspace, row.attributes).get(_property(row.workspace, search.order.path))
        if value is not None:
            key = conditions.sort_key(search.order.type, value)
    return ProfileCursor(row.id, row.updated_at, key)


# --- In the order of the list ---------------------------------------------------------------------------------------


def _scan(connection: Connection, search: Search, test: Test) -> ProfilePage:
    """Return the part of the list by testing all profiles in its order, until it is full."""
    wanted = search.first + search.limit + 1
    found: list[_Found] = []
    tested, has_more = 0, False
    number = count(connection, search.workspace)
    for some in _in_order(connection, search, number):
        tested += len(some)
        found += [each for each in some if test(each[0].attributes)]
        if has_more := len(found) >= wanted and tested < number:
            break
    is_estimate = has_more or search.after is not None
    total = len(found)
    if is_estimate:
        share = 1.0
        if search.order is not None:
            own = _own_conditions(connection, search, search.order)
            share = min((_frequency(connection, search.workspace, *each) for each in own), default=1.0)
        total = max(total, round(total / max(tested, 1) * number * share))
    return _page(search, found[search.first :], total, is_estimate=is_estimate)


def _in_order(connection: Connection, search: Search, number: int) -> Iterator[list[_Found]]:
    """Yield the profiles of the list that can meet the filter, of `number` in the workspace, from the place of the
    search on, in growing parts.

    With an order by a property, each query for places sorts all its values. So it returns many, of which only those
    that are needed are read.
    """
    sizes = _sizes(search)
    after, order = search.after, search.order
    if order is not None and (after is None or after.key is not None):
        place, places = after, _MIN_PLACES
        while True:
            chosen = _sorted_places(connection, search, order, place, places, 0)
            start = 0
            while start < len(chosen):
                some = chosen[start : start + (next(sizes) if number > _MIN_PLACES else _MIN_PLACES)]
                start += len(some)
                yield _read_places(connection, order, some)
            if len(chosen) < places:
                break
            profile, value = chosen[-1]
            place = ProfileCursor(profile, 0, conditions.sort_key(order.type, value))
            places = min(places * 5, _MAX_PLACES)
        after = None
    if order is not None and _own_conditions(connection, search, order):
        return  # a profile without the property does not meet them
    while True:
        step = next(sizes)
        rows = _by_time(connection, search, after, step, 0, without=order)
        yield [(row, ProfileCursor(row.id, row.updated_at)) for row in rows]
        if len(rows) < step:
            return
        after = ProfileCursor(rows[-1].id, rows[-1].updated_at)


def _sizes(search: Search) -> Iterator[int]:
    """Yield the numbers of profiles to test in each step, which grow to `_ROWS_PER_STEP`."""
    step = max(2 * (search.first + search.limit + 1), _MIN_ROWS_PER_STEP)
    while True:
        step = min(2 * step, _ROWS_PER_STEP)
        yield step


def _ordered(
    connection: Connection, search: Search, after: ProfileCursor | None, limit: int, offset: int
) -> list[_Found]:
    """Return the next profiles of the list without the filter, after a place."""
    if search.order is None:
        return [
            (row, ProfileCursor(row.id, row.updated_at)) for row in _by_time(connection, search, after, limit, offset)
        ]
    found: list[_Found] = []
    if after is None or after.key is not None:
        found = _by_value(connection, search, search.order, after, limit, offset)
        offset = 0 if found or not offset else max(0, offset - _number_with(connection, search, search.order, after))
        after = None
    if len(found) < limit:
        rows = _by_time(connection, search, after, limit - len(found), offset, without=search.order)
        found += [(row, ProfileCursor(row.id, row.updated_at)) for row in rows]
    return found


def _by_time(
    connection: Connection,
    search: Search,
    after: ProfileCursor | None,
    limit: int,
    offset: int,
    without: Order | None = None,
) -> list[ProfileRow]:
    """Return the next profiles in the order of their times; with `without`, of those that do not have its property."""
    place = (_profiles.updated_at, _profiles.id)
    query = select(*PROFILE_COLUMNS).where(_profiles.workspace == search.workspace)
    if after is not None:
        # The first condition uses the index.
        time, later = after.updated_at, tuple_(*place) > tuple_(after.updated_at, after.id)
        earlier = tuple_(*place) < tuple_(after.updated_at, after.id)
        query = query.where(_profiles.updated_at <= time if search.descending else _profiles.updated_at >= time)
        query = query.where(earlier if search.descending else later)
    if without is not None:
        query = query.where(_has_no(_property(search.workspace, without.path)))
    query = query.order_by(*(column.desc() if search.descending else column for column in place))
    return list(map(read_profile, connection.execute(query.limit(limit).offset(offset))))


def _by_value(
    connection: Connection, search: Search, order: Order, after: ProfileCursor | None, limit: int, offset: int
) -> list[_Found]:
    """Return the next profiles that have the property of the order."""
    return _read_places(connection, order, _sorted_places(connection, search, order, after, limit, offset))


def _sorted_places(
    connection: Connection, search: Search, order: Order, after: ProfileCursor | None, limit: int, offset: int
) -> list[tuple[int, str]]:
    """Return the next profiles that have the property of the order, with their values."""
    query, place = _with_value(connection, search, order, after)
    query = query.order_by(*(column.desc() if search.descending else column for column in place))
    return [(profile, value) for profile, value in connection.execute(query.limit(limit).offset(offset))]


def _read_places(connection: Connection, order: Order, places: Sequence[tuple[int, str]]) -> list[_Found]:
    """Return the profiles at these places."""
    rows: dict[int, ProfileRow] = {}
    for some in bulk.chunks(places, _ROWS_PER_STEP):
        found = bulk.lookup(connection, PROFILE_COLUMNS, (_profiles.id,), ((profile,) for profile, _ in some))
        rows |= {row.id: row for row in map(read_profile, found)}
    return [
        (row, ProfileCursor(row.id, row.updated_at, conditions.sort_key(order.type, value)))
        for profile, value in places
        if (row := rows.get(profile)) is not None
    ]


def _with_value(
    connection: Connection, search: Search, order: Order, after: ProfileCursor | None
) -> tuple[Select[Any], tuple[ColumnElement[Any], ...]]:
    """Return a query for the profiles that have the property of the order, after a place, and its order. Most of those
    that fail the filter's conditions on this property are left out."""
    table = tables.profile_values.c
    is_sqlite = connection.dialect.name == "sqlite"
    sorted_by = conditions.sort_value(order.type, _value, is_sqlite=is_sqlite)
    place = (sorted_by, table.profile)
    query = select(table.profile, table.value).where(table.property == _property(search.workspace, order.path))
    query = query.where(*(condition for _, condition in _own_conditions(connection, search, order)))
    if after is not None and after.key is not None:
        bound = tuple_(conditions.sort_bound(order.type, after.key, is_sqlite=is_sqlite), after.id)
        query = query.where(tuple_(*place) < bound if search.descending else tuple_(*place) > bound)
    return query, place


def _own_conditions(
    connection: Connection, search: Search, order: Order
) -> list[tuple[CheckedCondition, ColumnElement[bool]]]:
    """Return the conditions on the property of the order that every profile of the list meets, each with the condition
    on values."""
    filter, is_sqlite = search.filter, connection.dialect.name == "sqlite"
    if filter is None or (filter.logical == "or" and len(filter.conditions) > 1):
        return []
    own = [condition for condition in filter.conditions if condition.path == order.path]
    narrowed = [(condition, conditions.narrow(condition, _value, is_sqlite=is_sqlite)) for condition in own]
    return [(condition, on_values) for condition, on_values in narrowed if on_values is not None]


def _number_with(connection: Connection, search: Search, order: Order, after: ProfileCursor | None) -> int:
    query, _ = _with_value(connection, search, order, after)
    return int(connection.execute(select(func.count()).select_from(query.subquery())).scalar_one())
