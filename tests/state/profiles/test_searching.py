"""Lists of profiles: the same profiles as the filter selects in memory, in order, however they are found."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from datetime import date
from decimal import Decimal
from itertools import count, pairwise
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from headwater.filters import Condition, Filter, InvalidFilter, check_filter, compile_filter
from headwater.filters.operators import OPERATORS
from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    IpType,
    MapType,
    ObjectType,
    Property,
    StringType,
    Time,
    TimeType,
    Type,
    UuidType,
    YearType,
)
from headwater.schemas.codec import Codec
from headwater.state import StateStore, open_state
from headwater.state.profiles import ProfileRow, conditions, searching, values
from headwater.state.profiles.searching import Order, ProfileCursor, Search
from tests.examples import examples
from tests.harness import MovableClock
from tests.state.profiles.changes import OTHER_WORKSPACE, WORKSPACE, changes, link, member, profile, write

LONG: Final = "x" * values.MAX_TEXT
TEXTS: Final = [
    "", "a", "b", "ab", "A", "é", "\U0001f600", "z\U0001f600", "0", "12", "-3", "a\0", "a\0b", "\0", LONG, LONG + "y",
    LONG[:-1] + "\0", "NaN", "Infinity", "2024-03-05T10:00:00Z", " ", '"', "\\", "*", "[a]", "a?", "a\U0010ffffb",
]  # fmt: skip
MOMENTS: Final = [
    "0001-01-01T00:00:00Z", "2024-03-05T10:00:00Z", "2024-03-05T10:00:00.500Z", "2024-03-05T10:00:00.500000001Z",
    "2024-03-05T10:00:01Z", "9999-12-31T23:59:59.999Z",
]  # fmt: skip
TIMES: Final = ["00:00:00", "10:00:00", "10:00:00.5", "10:00:00.500001", "23:59:59.999"]
VALUES: Final[dict[str, tuple[Type, list[Any]]]] = {
    "text": (StringType(), TEXTS),
    "flag": (BooleanType(), [True, False]),
    "small": (IntType(32), [0, -1, 7, 2**31 - 1]),
    "large": (IntType(64), [0, -1, 9, 10, 2**53, 2**53 + 1, -(2**63), 2**63 - 1]),
    "huge": (IntType(64, unsigned=True), [0, 2**64 - 1, 2**64 - 2, 99, 100]),
    "real": (FloatType(64), [0.0, -0.0, 1.5, -1.5, 1e300, 5e-324, float("inf"), float("-inf"), float("nan")]),
    "single": (FloatType(32), [0.0, 1.5, 0.10000000149011612, -16777216.0]),
    "exact": (
        DecimalType(40, 20),
        list(map(Decimal, ["0", "0.1", "0.10000000000000000001", "-1", "10", "12345678901234567890"])),
    ),
    "moment": (DateTimeType(), list(map(DateTime.parse, MOMENTS))),
    "day": (DateType(), [date(1, 1, 1), date(2024, 3, 5), date(9999, 12, 31)]),
    "time": (TimeType(), list(map(Time.parse, TIMES))),
    "year": (YearType(), [1, 2024, 9999]),
    "uuid": (UuidType(), ["6f1d3c1e-9a3b-4c7e-8f00-1234567890ab", "00000000-0000-0000-0000-000000000000"]),
    "address": (IpType(), ["1.2.3.4", "2001:db8::1"]),
    "texts": (ArrayType(StringType()), [[], ["a"], ["b", "a\0"], TEXTS[:9], ["x" * 300], ['"'], ["\\"]]),
    "singles": (ArrayType(FloatType(32)), [[0.10000000149011612], [1.5]]),
    "numbers": (ArrayType(FloatType(64)), [[], [1.0], [1.5, 2e20], [10.0, float("nan")], [0.1] * 100]),
    "exacts": (ArrayType(DecimalType(40, 20)), [[Decimal("0.1")], [Decimal("10"), Decimal("0.10000000000000000001")]]),
    "integers": (ArrayType(IntType(64)), [[], [1], [2**53 + 1, 10]]),
    "map": (MapType(IntType(32)), [{}, {"a": 1}, {"a.b": 1, "c": 2}]),
}


def optional(name: str, type_: Type) -> Property:
    return Property(name, type_, read_optional=True)


_FLAT: Final = tuple(optional(name, type_) for name, (type_, _) in VALUES.items())
SCHEMA: Final = ObjectType((*_FLAT, optional("inner", ObjectType((*_FLAT, optional("deep", ObjectType(_FLAT[:3])))))))
CODEC: Final = Codec(SCHEMA)


@st.composite
def records(draw: st.DrawFn, names: tuple[str, ...] = tuple(VALUES)) -> dict[str, Any]:
    chosen = draw(st.lists(st.sampled_from(names), unique=True))
    return {name: draw(st.sampled_from(VALUES[name][1])) for name in chosen}


@st.composite
def people(draw: st.DrawFn) -> dict[str, Any]:
    record = draw(records())
    if draw(st.booleans()):
        record["inner"] = draw(records())
        if draw(st.booleans()):
            record["inner"]["deep"] = draw(records(tuple(VALUES)[:3]))
    return record


def _as_text(value: Any) -> str:
    match value:
        case DateTime() | Time():
            return value.json_text
        case list():
            return _as_text(value[0]) if value else "a"
        case _:
            return str(value)


@st.composite
def a_condition(draw: st.DrawFn) -> Condition:
    name = draw(st.sampled_from([*VALUES, "text", "text", "real", "moment"]))
    operator = draw(st.sampled_from(OPERATORS))
    prefix = draw(st.sampled_from(["", "", "inner."]))
    number = {"is between": 2, "is not between": 2, "is one of": 3}.get(operator, 1)
    if operator in ("is true", "is false", "is empty", "is not empty", "exists", "does not exist", "is null"):
        return Condition(prefix + name, operator)
    texts = draw(st.lists(st.sampled_from(VALUES[name][1]).map(_as_text), min_size=number, max_size=number))
    return Condition(prefix + name, operator, tuple(texts))


@st.composite
def a_filter(draw: st.DrawFn) -> Filter:
    chosen = draw(st.lists(a_condition(), min_size=1, max_size=3))
    valid = [each for each in chosen if _fits(each)] or [Condition("inner.text", "exists")]
    return Filter(draw(st.sampled_from(["and", "or"])), tuple(valid))


def _fits(condition: Condition) -> bool:
    try:
        check_filter(Filter("and", (condition,)), SCHEMA, role="Destination", target="User")
    except InvalidFilter:
        return False
    return True


ORDERS: Final = [
    None,
    *(name for name, (type_, _) in VALUES.items() if type_.kind not in ("array", "map")),
    "inner.text",
]


class Stores:
    """A state store for many examples, each with its own workspace."""

    def __init__(self, runner: asyncio.Runner, state: StateStore) -> None:
        self._runner, self.state = runner, state
        self._workspaces = count(100)
        self._ids = count(1)

    def run(self, coroutine: Any) -> Any:
        return self._runner.run(coroutine)

    def fill(self, records: list[dict[str, Any]]) -> tuple[int, list[ProfileRow]]:
        workspace = next(self._workspaces)
        rows = [
            profile(next(self._ids), CODEC.encode(record).decode(), workspace=workspace, updated_at=7 * number % 5)
            for number, record in enumerate(records)
        ]
        self.run(write(self.state, changes(workspace, profiles=rows)))
        return workspace, rows

    def list(self, search: Search) -> searching.ProfilePage:
        page: searching.ProfilePage = self.run(self.state.profiles.page(search))
        return page


@pytest.fixture
def stores(url: str) -> Iterator[Stores]:
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        state = runner.run(stack.enter_async_context(open_state(url, writes=True, clock=MovableClock())))
        yield Stores(runner, state)
        runner.run(stack.aclose())


def list_all(stores: Stores, search: Search, limit: int) -> list[ProfileRow]:
    """The whole list by its cursors."""
    found: list[ProfileRow] = []
    after: ProfileCursor | None = None
    for _ in range(100):
        page = stores.list(Search(search.workspace, search.filter, search.order, search.descending, 0, limit, after))
        assert len(page.profiles) == limit or page.next is None, "only the last page is short"
        found += page.profiles
        after = page.next
        if after is None:
            return found
    raise AssertionError("it does not end")


def read_key(row: ProfileRow, path: str) -> Any:
    here: Any = CODEC.decode(row.attributes)
    for component in path.split("."):
        here = here.get(component) if isinstance(here, dict) else None
    return here


@pytest.mark.parametrize(
    ("most", "tested"), [(0, 0), (5_000, 5_000), (5_000, 0)], ids=["scanned", "tested", "in order"]
)
@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(people(), max_size=12), a_filter(), st.sampled_from(ORDERS), st.booleans(), st.integers(1, 4))
def test_a_list_has_what_the_filter_selects_in_memory(
    stores: Stores,
    most: int,
    tested: int,
    people: list[Any],
    given: Filter,
    order: str | None,
    descending: bool,
    limit: int,
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(searching, "MAX_CANDIDATES", most)
        patch.setattr(searching, "MAX_TESTED", tested)
        patch.setattr(searching, "PROFILES_PER_CANDIDATE", 1)
        patch.setattr(searching, "_ROWS_PER_STEP", 3)
        patch.setattr(searching, "_MIN_PLACES", 2)
        patch.setattr(searching, "_MAX_PLACES", 4)
        workspace, rows = stores.fill(people)
        checked = check_filter(given, SCHEMA, role="Destination", target="User")
        by = None if order is None else Order(tuple(order.split(".")), VALUES[order.rpartition(".")[2]][0])
        search = Search(workspace, checked, by, descending, limit=limit)
        passes = compile_filter(checked)
        expected = [row for row in rows if passes(CODEC.decode(row.attributes))]
        whole = stores.list(Search(workspace, checked, by, descending, limit=100))
        assert {row.id for row in whole.profiles} == {row.id for row in expected}
        assert whole.total == len(expected)
        assert not whole.is_estimate
        assert list_all(stores, search, limit) == whole.profiles
        skipped = stores.list(Search(workspace, checked, by, descending, first=2, limit=limit))
        assert skipped.profiles == whole.profiles[2 : 2 + limit]
        assert skipped.total >= min(2 + limit, len(expected))


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        ("single", "is"),
        ("single", "is greater than or equal to"),
        ("single", "is less than or equal to"),
        ("singles", "contains"),
    ],
)
def test_a_number_of_32_bits_is_found_by_its_digits(stores: Stores, name: str, operator: str) -> None:
    """Filter by a number whose JSON is 0.1, which as a number of 64 bits is another one."""
    single = 0.10000000149011612
    workspace, [row] = stores.fill([{name: single if name == "single" else [single]}])
    checked = check_filter(
        Filter("and", (Condition(name, operator, (str(single),)),)), SCHEMA, role="Destination", target="User"
    )
    page = stores.list(Search(workspace, checked, None, False, limit=10))
    assert [each.id for each in page.profiles] == [row.id]


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(people(), max_size=12), st.sampled_from(ORDERS), st.booleans(), st.integers(1, 4))
@example([{"huge": 2**64 - 1}, {"huge": 2**64 - 2}, {"huge": 2**63}, {"huge": 2**63 - 1}, {"huge": 5}], "huge", True, 1)
def test_a_list_is_in_order(stores: Stores, people: list[Any], order: str | None, descending: bool, limit: int) -> None:
    workspace, rows = stores.fill(people)
    by = None if order is None else Order(tuple(order.split(".")), VALUES[order.rpartition(".")[2]][0])
    whole = stores.list(Search(workspace, None, by, descending, limit=100))
    assert sorted(row.id for row in whole.profiles) == [row.id for row in rows]
    assert (whole.total, whole.is_estimate, whole.next) == (len(rows), False, None)
    assert list_all(stores, Search(workspace, None, by, descending), limit) == whole.profiles
    for first in range(len(rows) + 2):
        part = stores.list(Search(workspace, None, by, descending, first=first, limit=limit))
        assert part.profiles == whole.profiles[first : first + limit]
    assert_ordered(whole.profiles, order, descending)


def assert_ordered(rows: list[ProfileRow], order: str | None, descending: bool) -> None:
    times = [(row.updated_at, row.id) for row in rows]
    if order is None:
        assert times == sorted(times, reverse=descending)
        return
    keys = [read_key(row, order) for row in rows]
    present = [key for key in keys if key is not None]
    assert keys[: len(present)] == present or present != present, "profiles without the property are last"
    missing = times[len(present) :]
    assert missing == sorted(missing, reverse=descending)
    for one, other in pairwise(present[::-1] if descending else present):
        if isinstance(one, str) and order.endswith("text"):
            one, other = (each.partition("\0")[0][: values.MAX_TEXT] for each in (one, other))
        elif isinstance(one, Decimal):
            one, other = float(one), float(other)
        assert one <= other or one != one or other != other


@settings(max_examples=300, deadline=None)
@given(people(), a_filter())
def test_the_test_of_attributes_equals_the_filter(person: dict[str, Any], given: Filter) -> None:
    checked = check_filter(given, SCHEMA, role="Destination", target="User")
    text = CODEC.encode(person).decode()
    assert conditions.compile_test(checked)(text) == compile_filter(checked)(CODEC.decode(text))


@pytest.mark.parametrize("attributes", ['{"small":"x","inner":[]}', '{"small":null,"inner":null}', '{"small":{}}'])
def test_attributes_that_do_not_fit_the_schema_are_missing(stores: Stores, attributes: str) -> None:
    row = profile(1, attributes)
    stores.run(write(stores.state, changes(profiles=[row])))
    for condition, is_met in (
        (Condition("small", "is", ("1",)), False),
        (Condition("small", "exists"), False),
        (Condition("small", "is not", ("1",)), True),
        (Condition("inner.small", "does not exist"), True),
    ):
        checked = check_filter(Filter("and", (condition,)), SCHEMA, role="Destination", target="User")
        page = stores.list(Search(WORKSPACE, checked))
        assert page.profiles == ([row] if is_met else [])
        assert stores.list(Search(OTHER_WORKSPACE, checked)).profiles == []


def test_a_total_is_estimated_from_the_profiles_that_were_tested(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MAX_CANDIDATES", 10)
    workspace, _ = stores.fill([{"small": number % 2} for number in range(1_000)])
    checked = check_filter(
        Filter("and", (Condition("small", "is", ("1",)),)), SCHEMA, role="Destination", target="User"
    )
    page = stores.list(Search(workspace, checked, limit=10))
    assert page.is_estimate
    assert 400 <= page.total <= 600
    everything = stores.list(Search(workspace, checked, limit=501))
    assert (everything.total, everything.is_estimate, len(everything.profiles)) == (500, False, 500)


def test_a_selective_filter_reads_only_the_profiles_that_can_pass(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace, rows = stores.fill([{"small": number, "text": "a"} for number in range(1_000)])
    tested = note_tests(monkeypatch)
    given = Filter("and", (Condition("text", "is", ("a",)), Condition("small", "is one of", ("3", "5"))))
    checked = check_filter(given, SCHEMA, role="Destination", target="User")
    page = stores.list(Search(workspace, checked, descending=False))
    assert {row.id for row in page.profiles} == {rows[3].id, rows[5].id}
    assert len(tested) == 2


def test_profiles_that_cannot_pass_are_left_out_of_the_order_of_their_property(
    stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MAX_CANDIDATES", 10)
    workspace, _ = stores.fill([{"text": "a" if number < 300 else "b"} for number in range(3_000)])
    tested = note_tests(monkeypatch)
    given = Filter("and", (Condition("text", "starts with", ("a",)),))
    checked = check_filter(given, SCHEMA, role="Destination", target="User")
    page = stores.list(Search(workspace, checked, Order(("text",), StringType()), limit=10))
    assert len(page.profiles) == 10 and len(tested) <= 100
    assert page.is_estimate and page.total >= 300, "the oldest profiles, which the estimate is from, have it"


def note_tests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which the attributes of every tested profile are added."""
    tested: list[str] = []
    compile_test = conditions.compile_test

    def noting(filter: Any) -> Any:
        test = compile_test(filter)

        def noted(attributes: str) -> bool:
            tested.append(attributes)
            return test(attributes)

        return noted

    monkeypatch.setattr(conditions, "compile_test", noting)
    return tested


@pytest.mark.parametrize("condition", [Condition("text", "is", ("a",)), Condition("large", "is one of", ("9", "10"))])
def test_an_identifier_is_found_by_its_links(stores: Stores, condition: Condition) -> None:
    """The third profile has the value too, and no links: what the links say decides."""
    row = profile(1, '{"text":"a","large":"9"}')
    others = [profile(2, '{"text":"b","large":"10"}'), profile(3, row.attributes)]
    identities = {1: ("a", "9"), 2: ("b", "10"), 4: ("a", "9")}
    owners = {1: 1, 2: 2, 4: 2}
    members = [member(identity, owners[identity], *found) for identity, found in identities.items()]
    links = [
        link(value, identity, identifier=number)
        for identity, found in identities.items()
        for number, value in enumerate(found)
    ]
    stores.run(write(stores.state, changes(profiles=[row, *others], members=members, links=links)))
    checked = check_filter(Filter("and", (condition,)), SCHEMA, role="Destination", target="User")

    def found(*identifiers: str, given: Any = checked) -> list[int]:
        return sorted(row.id for row in stores.list(search(given, identifiers)).profiles)

    def search(given: Any, identifiers: tuple[str, ...], digest: str = "d") -> Search:
        return Search(WORKSPACE, given, identifiers=identifiers, digest=digest)

    async def apply() -> None:
        async with stores.state.transaction() as transaction:
            await transaction.on_profiles(lambda rows: rows.set_resolution(WORKSPACE, "d", None))

    stores.run(apply())

    expected = {"text": [1], "large": [1, 2]}[condition.property]
    assert found("text", "large") == expected
    assert found() == sorted({*expected, 3})
    assert found("other") == found()
    others_settings = stores.list(search(checked, ("text", "large"), digest="e"))
    assert sorted(row.id for row in others_settings.profiles) == found()
    unlinked = Filter("and", (Condition("text", "is one of", ("a", "z")),))
    given = check_filter(unlinked, SCHEMA, role="Destination", target="User")
    assert found("text", given=given) == [1, 3], "a value without links may be blocked"


def test_attributes_that_are_not_unicode_can_be_written_and_have_no_values(stores: Stores) -> None:
    row = profile(1, '{"text":"\\ud800","small":1}')
    stores.run(write(stores.state, changes(profiles=[row])))
    assert stores.list(Search(WORKSPACE)).profiles == [row]
    assert values.read_values(WORKSPACE, row.attributes) in ({}, values.read_values(WORKSPACE, '{"small":1}'))
