from datetime import date

import pytest

from headwater.schemas import BooleanType, DateType, InvalidValue, StringType, Type, check_of


@pytest.mark.parametrize("type", [BooleanType(), DateType(), StringType()])
def test_most_types_have_no_constraints(type: Type) -> None:
    check_of(type)(date(2024, 1, 1))


def test_all_constraints_of_a_text_hold() -> None:
    check = check_of(StringType(max_length=3, max_bytes=4, pattern="^a"))
    check("aé")
    for text, rule in [("abcd", "at most 3 characters"), ("aéé", "at most 4 bytes"), ("b", "must match the pattern")]:
        with pytest.raises(InvalidValue, match=rule):
            check(text)


def test_a_long_enumeration_is_told_in_part() -> None:
    with pytest.raises(InvalidValue, match=r'must be one of "0", .*"9", …$'):
        check_of(StringType(values=tuple(map(str, range(1000)))))("x")
