r"""Filters as text: `type is "track" and event is one of "Order Completed", "Order Refunded"`.

    filter     =  [ condition { "and" condition } | condition { "or" condition } ]
    condition  =  path operator values
    values     =  nothing, value, value "and" value, or value { "," value }, as the operator takes them
    value      =  "…" or '…', with the escapes \a \b \f \n \r \t \v \\ \' \" \uXXXX \UXXXXXXXX,
                  or, without quotes, what begins with a digit, sign or point: 42  -1.5  2025-10-20  10:30:00

Words are case-insensitive and separated by any white space. White space only is a missing filter, None. A path comes
first in a condition, so properties may be called `and` or `is` like the words. Parsing a printed filter gives the same
filter, except that a single condition is always read as `and`. With one condition, `and` and `or` mean the same.
"""

import re
from typing import Final

from headwater.base.scanner import Scanner, escape, read_string
from headwater.filters.errors import InvalidFilter, InvalidFilterText, quoted
from headwater.filters.model import (
    CONDITIONS_RULE,
    MAX_CONDITIONS,
    MAX_VALUES,
    VALUES_RULE,
    Condition,
    Filter,
    check_counts,
)
from headwater.filters.operators import OPERATORS, Operator, arity, check_arity, is_logical, is_operator
from headwater.schemas import is_path

_SPACE: Final = re.compile(r"\s*")
_PATH: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*+(?!\.)")
_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNQUOTED: Final = re.compile(r"[+-]?\.?[0-9][0-9A-Za-z_.:+-]*")
_FORBIDDEN: Final = re.compile("[\0\ud800-\udfff]")
_PLAIN_NUMBER: Final = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?", re.ASCII)


class _Words(dict[str, "_Words"]):
    """The operators as a tree of words: the possible next words, and the operator that ends here, if any."""

    operator: Operator | None = None


def _build_operator_words() -> _Words:
    first = _Words()
    for operator in OPERATORS:
        here = first
        for word in operator.split():
            here = here.setdefault(word, _Words())
        here.operator = operator
    return first


_OPERATOR_WORDS: Final = _build_operator_words()


def parse_text(text: str) -> Filter | None:
    """Parse a filter; None for white space only. Takes time linear in the length of the text.

    Raises InvalidFilterText with the position of the first character that cannot belong to a filter, or of the part
    that exceeds MAX_CONDITIONS or MAX_VALUES. Checks no schema.
    """
    parser = _FilterParser(text)
    if parser.at_end():
        return None
    conditions = [parser.condition()]
    logical: str | None = None
    while not parser.at_end():
        start = parser.position
        word = parser.word()
        if word not in ("and", "or"):
            raise InvalidFilterText('there must be "and", "or" or the end of the filter', start)
        if logical not in (None, word):
            raise InvalidFilterText('"and" and "or" cannot be in one filter', start)
        logical = word
        if len(conditions) == MAX_CONDITIONS:
            raise InvalidFilterText(CONDITIONS_RULE, start)
        conditions.append(parser.condition())
    return Filter(logical or "and", tuple(conditions))


def print_text(filter: Filter | None) -> str:
    """Return the filter as text. Raises InvalidFilter if no schema could accept it: an unknown operator, too many
    values, a value with NUL or lone surrogates."""
    if filter is None:
        return ""
    if not is_logical(filter.logical):
        raise InvalidFilter('must be "and" or "or"', "logical")
    if not filter.conditions:
        raise InvalidFilter("must have at least one element", "conditions")
    check_counts(filter)
    return f" {filter.logical} ".join(map(_print_condition, range(len(filter.conditions)), filter.conditions))


class _FilterParser(Scanner):
    """Parses the parts of a filter one after another, with the white space after each."""

    def __init__(self, text: str) -> None:
        super().__init__(text, _SPACE)
        self._values_read = 0
        self.skip_space()

    def condition(self) -> Condition:
        path = self._take(_PATH)
        if path is None:
            raise InvalidFilterText("there must be the path of a property", self.position)
        operator = self._operator()
        return Condition(path, operator, self._values(operator))

    def word(self) -> str | None:
        """Return the next word in lower case, None if anything else follows."""
        word = self._take(_WORD)
        return None if word is None else word.lower()

    def _operator(self) -> Operator:
        start = self.position
        here = _OPERATOR_WORDS
        while True:
            before = self.position
            word = self.word()
            if word is None or word not in here:
                self.position = before
                break
            here = here[word]
        if here.operator is None:
            following = ", ".join(f'"{word}"' for word in here)
            where = self.position if here is not _OPERATOR_WORDS else start
            raise InvalidFilterText(f"an operator must have one of {following} here", where)
        return here.operator

    def _values(self, operator: Operator) -> tuple[str, ...] | None:
        _, maximum = arity(operator)
        if maximum == 0:
            return None
        values = [self._value()]
        if maximum == 2:
            start = self.position
            if self.word() != "and":
                raise InvalidFilterText('there must be "and" and a second value', start)
            values.append(self._value())
        elif maximum is None:
            while self.skip(","):
                self.skip_space()
                values.append(self._value())
        return tuple(values)

    def _value(self) -> str:
        start = self.position
        if self._values_read == MAX_VALUES:
            raise InvalidFilterText(VALUES_RULE, start)
        self._values_read += 1
        if self.peek() not in ("'", '"'):
            value = self._take(_UNQUOTED)
            if value is None:
                raise InvalidFilterText("there must be a value, in quotes unless it begins with a digit", start)
            return value
        value, self.position = read_string(self.text, start, name="a value", error=InvalidFilterText)
        self.skip_space()
        return value

    def _take(self, pattern: re.Pattern[str]) -> str | None:
        token = self.take(pattern)
        if token is not None:
            self.skip_space()
        return token


def _print_condition(index: int, condition: Condition) -> str:
    def invalid(rule: str, member: str) -> InvalidFilter:
        operator = quoted(condition.operator)
        field = f"conditions[{index}].{member}"
        return InvalidFilter(rule, field, condition=index, property=condition.property, operator=operator)

    operator, values = condition.operator, condition.values or ()
    if not is_path(condition.property):
        raise invalid("must be property names joined with points", "property")
    if not is_operator(operator):
        raise invalid("is not an operator", "operator")
    rule = check_arity(operator, len(values))
    if rule is not None:
        raise invalid(rule, "values")
    for number, value in enumerate(values):
        if _FORBIDDEN.search(value):
            raise invalid("cannot contain NUL or lone surrogates", f"values[{number}]")
    between = " and " if arity(operator) == (2, 2) else ", "
    return " ".join(filter(None, (condition.property, operator, between.join(map(_print_value, values)))))


def _print_value(value: str) -> str:
    if _PLAIN_NUMBER.fullmatch(value):
        return value
    return f'"{"".join(map(_print_character, value))}"'


def _print_character(character: str) -> str:
    return character if character.isprintable() and character not in '"\\' else escape(character)
