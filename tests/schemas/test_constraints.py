from datetime import date

import pytest

from headwater.schemas import BooleanType, DateType, IntType, InvalidValue, StringType, Type, compile_check


@pytest.mark.parametrize(
    ("type", "value"), [(BooleanType(), True), (DateType(), date(2024, 1, 1)), (StringType(), "x" * 100_000)]
)
def test_types_without_constraints_pass_every_value(type: Type, value: object) -> None:
    assert is_accepted(type, value)


@pytest.mark.parametrize(
    ("type", "value", "accepted"),
    [(StringType(max_length=3), "abc", True), (StringType(max_length=3), "abcd", False), (IntType(8), 127, True)],
)
def test_constraints_decide(type: Type, value: object, accepted: bool) -> None:
    assert is_accepted(type, value) is accepted


def is_accepted(type: Type, value: object) -> bool:
    """Return whether the constraints of the type hold for the value."""
    try:
        compile_check(type)(value)
    except InvalidValue:
        return False
    return True


def test_all_constraints_of_a_text_hold() -> None:
    check = compile_check(StringType(max_length=3, max_bytes=4, pattern="^a"))
    check("aé")
    for text, rule in [("abcd", "at most 3 characters"), ("aéé", "at most 4 bytes"), ("b", "must match the pattern")]:
        with pytest.raises(InvalidValue, match=rule):
            check(text)


def test_a_long_enumeration_is_abbreviated() -> None:
    with pytest.raises(InvalidValue, match=r'must be one of "0", .*"9", …$'):
        compile_check(StringType(values=tuple(map(str, range(1000)))))("x")
