"""Filters as text: parsing, printing, that both are inverse, and error messages."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.filters import (
    MAX_CONDITIONS,
    MAX_VALUES,
    OPERATORS,
    Condition,
    Filter,
    InvalidFilter,
    InvalidFilterText,
    parse_text,
    print_text,
)
from headwater.filters.operators import arity


def condition(property: str, operator: str, *values: str) -> Condition:
    return Condition(property, operator, values)


TRACK = condition("type", "is", "track")


@pytest.mark.parametrize(
    ("text", "conditions"),
    [
        ('type is "track" and event is "Order Completed"', [TRACK, condition("event", "is", "Order Completed")]),
        (
            "type is 'track' and properties.products is not empty",
            [TRACK, condition("properties.products", "is not empty")],
        ),
        ("type is 'track' and event is not 'x'", [TRACK, condition("event", "is not", "x")]),
        ("\ttype\nIS \"track\"\n  AND vip Is True  ", [TRACK, condition("vip", "is true")]),
        ('type is"track"and a exists', [TRACK, condition("a", "exists")]),
        ("a is one of 'x' , \"y\",3", [condition("a", "is one of", "x", "y", "3")]),
        ("a is between 1 and 5 and b exists", [condition("a", "is between", "1", "5"), condition("b", "exists")]),
        ("a is not between '' and ' '", [condition("a", "is not between", "", " ")]),
        ("a is -1.5", [condition("a", "is", "-1.5")]),
        ("a is .5", [condition("a", "is", ".5")]),
        ("a is after 2024-02-29T10:00:00.5+02:00", [condition("a", "is after", "2024-02-29T10:00:00.5+02:00")]),
        ("and is 1 and or exists and is is 2", [condition("and", "is", "1"), condition("or", "exists"),
                                                 condition("is", "is", "2")]),
        (r'''a is "\"\\\n\u00e9\U0001F600'" ''', [condition("a", "is", '"\\\né😀\'')]),
        ('''a is 'say "hi"' ''', [condition("a", "is", 'say "hi"')]),
        ('a is "two\nlines"', [condition("a", "is", "two\nlines")]),
        ("a is less than or equal to 1", [condition("a", "is less than or equal to", "1")]),
        ("a is on or before 2024-01-01", [condition("a", "is on or before", "2024-01-01")]),
    ],
)  # fmt: skip
def test_reading(text: str, conditions: list[Condition]) -> None:
    assert parse_text(text) == Filter("and", tuple(conditions))


def test_or() -> None:
    assert parse_text("a exists or b is 1 or c is null") == Filter(
        "or", (condition("a", "exists"), condition("b", "is", "1"), condition("c", "is null"))
    )


@pytest.mark.parametrize("text", ["", " ", "\n\t\u00a0"])
def test_nothing_is_no_filter(text: str) -> None:
    assert parse_text(text) is None
    assert print_text(None) == ""


@pytest.mark.parametrize(
    ("text", "offset", "rule"),
    [
        ("is", 2, "an operator must have one of"),
        ("a", 1, "an operator must have one of"),
        ("a equals 1", 2, "an operator must have one of"),
        ("a. is 1", 0, "there must be the path of a property"),
        ("1a is 1", 0, "there must be the path of a property"),
        ("a is on", 7, 'an operator must have one of "or" here'),
        ("a is less 1", 10, 'an operator must have one of "than" here'),
        ("a does contain 1", 7, 'an operator must have one of "not" here'),
        ("a is", 4, "there must be a value"),
        ("a is track", 5, "there must be a value"),
        ("a is $", 5, "there must be a value"),
        ('a is "x', 5, "a value has no closing quote"),
        ("a is 'x\\'", 5, "a value has no closing quote"),
        ('a is "x\0"', 7, "a value cannot contain NUL"),
        ('a is "\ud800"', 6, "a value cannot contain NUL"),
        (r'a is "x\q"', 7, "a backslash must be followed by one of"),
        (r'a is "\u0000"', 6, "the escape is NUL"),
        (r'a is "\ud800"', 6, "the escape is NUL"),
        (r'a is "\U00110000"', 6, "the escape is NUL"),
        ("a is 1, 2", 6, 'there must be "and", "or" or the end'),
        ("a is 1 2", 7, 'there must be "and", "or" or the end'),
        ("a exists 1", 9, 'there must be "and", "or" or the end'),
        ("a is one of 1,", 14, "there must be a value"),
        ("a is one of 1 2", 14, 'there must be "and", "or" or the end'),
        ("a is between 1, 2", 14, 'there must be "and" and a second value'),
        ("a is between 1", 14, 'there must be "and" and a second value'),
        ("a is between 1 and", 18, "there must be a value"),
        ("a is 1 and", 10, "there must be the path of a property"),
        ("a is 1 and b is 2 or c is 3", 18, '"and" and "or" cannot be in one filter'),
        ("(a is 1)", 0, "there must be the path of a property"),
        ("😀", 0, "there must be the path of a property"),
    ],
)
def test_errors_have_a_position(text: str, offset: int, rule: str) -> None:
    with pytest.raises(InvalidFilterText) as raised:
        parse_text(text)
    error = raised.value
    assert error.rule.startswith(rule)
    assert error.offset == offset
    assert error.message == f"the filter is not valid: {error.rule}, at character {offset + 1}"


@pytest.mark.parametrize(
    ("filter", "field"),
    [
        (Filter("xor", (TRACK,)), "logical"),
        (Filter("and", ()), "conditions"),
        (Filter("and", (TRACK, condition("a b", "exists"))), "conditions[1].property"),
        (Filter("and", (condition("a", "equals", "1"),)), "conditions[0].operator"),
        (Filter("and", (condition("a", "is"),)), "conditions[0].values"),
        (Filter("and", (condition("a", "is", "\0"),)), "conditions[0].values[0]"),
    ],
)
def test_filters_that_cannot_be_printed(filter: Filter, field: str) -> None:
    with pytest.raises(InvalidFilter) as raised:
        print_text(filter)
    assert raised.value.field == field


def test_an_error_of_printing_names_the_condition() -> None:
    with pytest.raises(InvalidFilter) as raised:
        print_text(Filter("and", (TRACK, condition("a", "is", "1", "2"))))
    error = raised.value
    assert error.reason == "conditions[1].values (a is) must be 1 value, not 2"
    assert (error.condition, error.property, error.operator) == (1, "a", "is")


def test_how_it_is_written() -> None:
    first = condition("a", "is one of", "1", "01", "x", 'q"\\\n\u2028\uffff\U000e0001')
    filter = Filter("or", (first, condition("b.c", "is between", "-1.5", ""), condition("d", "does not exist")))
    written = r'"q\"\\\n\u2028\uffff\U000e0001"'
    source = f'a is one of 1, "01", "x", {written} or b.c is between -1.5 and "" or d does not exist'
    assert print_text(filter) == source
    assert parse_text(source) == filter


NAMES = st.sampled_from(["a", "and", "or", "is", "not", "between", "_1", "exists", "cart"])
PATHS = st.lists(NAMES, min_size=1, max_size=4).map(".".join)
TEXTS = st.text(max_size=8).filter(lambda text: "\0" not in text) | st.from_regex(r"\A-?[0-9]{1,3}(\.[0-9]+)?\Z")


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    operator = draw(st.sampled_from(OPERATORS))
    minimum, maximum = arity(operator)
    values = draw(st.lists(TEXTS, min_size=minimum, max_size=4 if maximum is None else maximum))
    return Condition(draw(PATHS), operator, tuple(values))


@given(st.sampled_from(["and", "or"]), st.lists(conditions(), min_size=1, max_size=5))
def test_reading_undoes_writing(logical: str, given: list[Condition]) -> None:
    filter = Filter(logical if len(given) > 1 else "and", tuple(given))
    assert parse_text(print_text(filter)) == filter


def test_one_condition_is_read_as_and() -> None:
    assert parse_text(print_text(Filter("or", (TRACK,)))) == Filter("and", (TRACK,))


WORDS = " ".join(OPERATORS).split()
PIECES = st.sampled_from(
    [*WORDS, *OPERATORS, "a", "a.b", "and", "or", '"x"', "'y'", "1", ",", '"', "\\", " ", "\n", "é"]
)


@given(st.lists(PIECES, max_size=12).map(" ".join) | st.text(max_size=40) | st.lists(PIECES, max_size=12).map("".join))
def test_any_text_is_a_filter_or_an_error(text: str) -> None:
    try:
        filter = parse_text(text)
    except InvalidFilterText as error:
        assert 0 <= error.offset <= len(text)
    else:
        assert parse_text(print_text(filter)) == filter


@pytest.mark.parametrize(
    "text",
    [
        "a" * 50_000,
        "a." * 25_000,
        "a" + ".a" * 25_000 + " exists",
        " " * 50_000 + "!",
        "a is " + '"' * 50_000,
        'a is "' + "\\" * 49_999,
        'a is "' + "\\n" * 25_000 + '"',
        "a is " + "1" * 50_000 + "!",
        "a is one of 1" + ",1" * 25_000,
        " and ".join(["a is 1"] * 5_000),
        "a is between 1 and " * 2_600,
        "is " * 17_000,
        "a is on or " * 4_500,
    ],
)
@pytest.mark.timeout(20)  # quadratic time would take minutes
def test_long_texts_take_linear_time(text: str) -> None:
    try:
        parse_text(text)
    except InvalidFilterText as error:
        assert len(error.message) < 300


def test_a_text_has_as_many_conditions_as_any_filter() -> None:
    text = " and ".join(["a exists"] * MAX_CONDITIONS)
    filter = parse_text(text)
    assert filter is not None and len(filter.conditions) == MAX_CONDITIONS
    with pytest.raises(InvalidFilterText) as raised:
        parse_text(f"{text} and b is 1 and c is 2")
    assert raised.value.rule == f"must have at most {MAX_CONDITIONS} conditions"
    assert raised.value.offset == len(text) + 1
    with pytest.raises(InvalidFilter) as rejected:
        print_text(Filter("and", (*filter.conditions, TRACK)))
    assert rejected.value.field == "conditions"


def test_a_text_has_as_many_values_as_any_filter() -> None:
    """The limit applies during parsing: a text of 450,000 values took a second of the event loop."""
    half = "a is one of " + ", ".join(["1"] * (MAX_VALUES // 2))
    filter = parse_text(f"{half} and {half}")
    assert filter is not None and len(filter.conditions) == 2
    with pytest.raises(InvalidFilterText) as raised:
        parse_text(f"{half} and {half}, 1" + ", !" * 400_000)
    assert raised.value.rule == f"must have at most {MAX_VALUES} values in all conditions together"
    assert raised.value.offset == len(f"{half} and {half}, ")
    with pytest.raises(InvalidFilter) as rejected:
        print_text(Filter("and", (*filter.conditions, TRACK)))
    assert rejected.value.field == "conditions"
