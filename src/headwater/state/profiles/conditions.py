"""Conditions on profiles: as a test of their attributes, and as conditions on `profile_values`.

The test decides. A condition on values finds every profile that can pass, and few others: numbers are compared as
doubles, times by the second, and long strings by their beginning.
"""

import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from typing import Any, Final

import msgspec
from msgspec import Raw
from sqlalchemy import ColumnElement, Numeric, String, and_, case, cast, func, literal, or_

from headwater.filters import CheckedFilter, compile_filter
from headwater.filters.validation import CheckedCondition
from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTime,
    DateTimeType,
    DecimalType,
    FloatType,
    IntType,
    InvalidValue,
    IpType,
    Path,
    StringType,
    Time,
    TimeType,
    Type,
    UuidType,
    YearType,
)
from headwater.schemas.decoding import Decoder, compile_decoder
from headwater.state.profiles import values

Test = Callable[[str], bool]
"""Returns whether attributes, a JSON object, pass."""
Value = ColumnElement[str]

_AT_MOST: Final = frozenset(("is less than", "is less than or equal to", "is before", "is on or before"))
_AT_LEAST: Final = frozenset(("is greater than", "is greater than or equal to", "is after", "is on or after"))
_EXACT: Final = 10**15
"""Below this limit a whole number has the same digits as an int and as a float."""
_MAX_INT64: Final = 2**63 - 1
_MAX_DIGITS: Final = len(str(2**64 - 1))
_members: Final = msgspec.json.Decoder(dict[str, Raw]).decode


def compile_test(filter: CheckedFilter) -> Test:
    """Return the filter as a test. An attribute that does not fit its property is missing."""
    passes = compile_filter(filter)
    leaves = {condition.path: condition.property.type for condition in filter.conditions}
    readers = [(path, compile_decoder(type_)) for path, type_ in leaves.items()]
    fields = [(f"member{index}", Raw, Raw()) for index in range(len(readers))]
    tops = list(dict.fromkeys(path[0] for path in leaves))
    decode = msgspec.json.Decoder(
        msgspec.defstruct("Members", fields[: len(tops)], rename={f"member{i}": name for i, name in enumerate(tops)})
    ).decode

    def test(attributes: str) -> bool:
        found = dict(zip(tops, msgspec.structs.astuple(decode(attributes)), strict=True))
        record: dict[str, Any] = {}
        for path, read in readers:
            if raw := found[path[0]]:
                _put(record, path, raw, read)
        return passes(record)

    return test


def _put(record: dict[str, Any], path: Path, raw: Raw, read: Decoder) -> None:
    """Put the value at the path, inside the value of its first property, into the record."""
    here = record
    for index, name in enumerate(path[1:]):
        try:
            inner = _members(raw).get(name)
        except msgspec.DecodeError:
            return
        here = here.setdefault(path[index], {})
        if inner is None:
            return
        raw = inner
    try:
        here[path[-1]] = read(raw)
    except InvalidValue:
        return


def narrow(condition: CheckedCondition, value: Value, *, is_sqlite: bool) -> ColumnElement[bool] | None:
    """Return a condition on the values of the property that every profile meets that meets the given one; None if
    there is none, or a profile without a value can meet it too."""
    type_ = condition.property.type
    if any(isinstance(each, str) and min(each, default=" ") < " " for each in condition.literals):
        return None  # a padded value has a control character
    match condition.operator, type_:
        case "exists", _ if type_.kind not in ("object", "map", "json"):
            return literal(True)
        case _, FloatType(bit_size=32) | ArrayType(element_type=FloatType(bit_size=32)):
            return None  # 0.1 is stored in these digits, and read as the nearest number of 32 bits
        case "is true", BooleanType():
            return value == values.boolean_value(True)
        case "is false", BooleanType():
            return value == values.boolean_value(False)
        case "is not empty", StringType() | ArrayType():
            return value.not_in(_EMPTY)
        case "contains", ArrayType():
            return _has_element(type_.element_type, condition.literals[0], value, is_sqlite=is_sqlite)
        case (("is" | "is one of"), _) if (equal := [_equal(type_, each) for each in condition.literals]) and all(
            equal
        ):
            return value.in_(equal)
        case ("contains" | "starts with" | "ends with") as operator, StringType():
            return _has_text(operator, str(condition.literals[0]), value, is_sqlite=is_sqlite)
        case "is between", _:
            low, high = condition.literals
            return and_(_at_least(type_, low, value), _at_most(type_, high, value))
        case operator, _ if operator in _AT_MOST:
            return _at_most(type_, condition.literals[0], value)
        case operator, _ if operator in _AT_LEAST:
            return _at_least(type_, condition.literals[0], value)
    return None


def narrow_negated(condition: CheckedCondition, value: Value) -> ColumnElement[bool] | None:
    """Return a condition on the values of the property that every profile with a value meets that meets the given one.
    A profile without a value meets the given condition too. None if there is no such condition."""
    type_ = condition.property.type
    match condition.operator:
        case "does not exist" if type_.kind not in ("object", "map", "json"):
            return literal(False)
        case "is empty" if isinstance(type_, StringType | ArrayType):
            return value.in_(_EMPTY)
        case "is not" | "is not one of" if not isinstance(type_, FloatType | DecimalType):
            equal = [_equal(type_, each) for each in condition.literals]
            return value.not_in(equal) if all(equal) else None
    return None


def link_text(condition: CheckedCondition) -> list[str] | None:
    """Return the values of links that identities have if they meet the condition; None for a condition that links
    cannot decide."""
    if condition.operator not in ("is", "is one of"):
        return None
    match condition.property.type:
        case StringType() | UuidType() | IpType():
            return [str(each) for each in condition.literals]
        case IntType() | DecimalType(scale=0):
            return [str(int(each)) for each in condition.literals]  # type: ignore[arg-type]  # numbers
    return None


def sort_value(type_: Type, value: Value, *, is_sqlite: bool) -> ColumnElement[Any]:
    """Return the expression by which the values of a property of this type are sorted."""
    match type_:
        case IntType(bit_size=64):
            return _digits(value, is_sqlite=is_sqlite)
        case DateTimeType():
            return func.rtrim(value, "Z")
        case FloatType():
            return func.replace(value, "T-Infinity", "M")
    return value


def sort_key(type_: Type, value: str) -> str:
    """Return the result of `sort_value` for a value, as a text."""
    match type_:
        case IntType(bit_size=64):
            return value[1:] if _DIGITS.fullmatch(value) else "0"
        case DateTimeType():
            return value.rstrip("Z")
        case FloatType():
            return value.replace("T-Infinity", "M")
    return value


def sort_bound(type_: Type, key: str, *, is_sqlite: bool) -> ColumnElement[Any]:
    """Return a key as an expression to compare with `sort_value`."""
    if isinstance(type_, IntType) and type_.bit_size == 64:
        if is_sqlite:
            return literal(key.zfill(_MAX_DIGITS)) if int(key) > _MAX_INT64 else literal(int(key))
        return cast(literal(key, String()), Numeric())
    return literal(key, String())


def comparable(type_: Type, key: str) -> Any:
    """Return a key as an object that compares as `sort_value` does."""
    if isinstance(type_, IntType) and type_.bit_size == 64:
        return Decimal(key)
    return key.encode()


def _digits(value: Value, *, is_sqlite: bool) -> ColumnElement[Any]:
    """Return the number that a value of digits has."""
    if is_sqlite:  # above 64 bits with a sign it has only doubles; a text sorts after every number
        digits = func.substr(value, 2)
        is_large = and_(
            func.length(value) >= len(str(_MAX_INT64)) + 1,
            digits.op("NOT GLOB")("*[^0-9]*"),
            or_(func.length(value) == _MAX_DIGITS + 1, value > f"T{_MAX_INT64}"),
        )
        padded = func.substr(literal("0").concat(digits), -_MAX_DIGITS)
        return case((is_large, padded), else_=cast(digits, Numeric()))
    return func.coalesce(cast(func.substring(value, _DIGITS.pattern), Numeric()), 0)


def _equal(type_: Type, literal_: Any) -> str | None:
    """Return the value that equals the literal."""
    match type_:
        case IntType(bit_size=64):
            return values.text_value(str(literal_))
        case IntType() | FloatType() | DecimalType() | YearType():
            return values.number_value(literal_)
    text = _text(literal_)
    return None if text is None else values.text_value(text)


def _text(literal_: Any) -> str | None:
    match literal_:
        case str():
            return literal_
        case DateTime() | Time():
            return literal_.json_text
        case date():
            return literal_.isoformat()
    return None


def _at_most(type_: Type, literal_: Any, value: Value) -> ColumnElement[bool]:
    match type_:
        case IntType(bit_size=64):
            return literal(True)
        case IntType() | FloatType() | DecimalType() | YearType():
            within = value.between("N", values.number_value(literal_))
            return or_(within, value == "T-Infinity") if isinstance(type_, FloatType) else within
    return value.between("T", "T" + _shortened(type_, literal_) + ("~" if type_.kind in _MOMENTS else ""))


def _at_least(type_: Type, literal_: Any, value: Value) -> ColumnElement[bool]:
    match type_:
        case IntType(bit_size=64):
            return literal(True)
        case IntType() | FloatType() | DecimalType() | YearType():
            within = and_(value >= values.number_value(literal_), value < "O")
            return or_(within, value == "TInfinity") if isinstance(type_, FloatType) else within
    return and_(value >= "T" + _shortened(type_, literal_), value < "U")


def _shortened(type_: Type, literal_: Any) -> str:
    """Return the text of a literal, without its fraction of a second: its digits and the zone do not sort as it."""
    text = _text(literal_) or ""
    match type_:
        case DateTimeType():
            return text[: len("2024-03-05T10:00:00")]
        case TimeType():
            return text[: len("10:00:00")]
    return text


def _has_text(operator: str, text: str, value: Value, *, is_sqlite: bool) -> ColumnElement[bool]:
    """Return a condition without functions where there is one: each call takes as long as reading a value."""
    if operator == "starts with":  # a range: all texts with the beginning are in it
        return value.between("T" + text, "T" + text + _MAX_CHARACTER * (values.MAX_TEXT + 1))
    is_long: ColumnElement[bool] = func.length(value) > values.MAX_TEXT + 1
    if is_sqlite:
        pattern = "*" + re.sub(r"[*?\[]", r"[\g<0>]", text)
        return or_(value.op("GLOB")(pattern if operator == "ends with" else pattern + "*"), is_long)
    is_long = and_(func.octet_length(value) > values.MAX_TEXT + 1, is_long)  # bytes are counted faster than characters
    if operator == "ends with":
        return or_(func.right(value, len(text)) == text, is_long)
    return or_(func.strpos(value, text) > 0, is_long)


def _has_element(type_: Type, literal_: Any, value: Value, *, is_sqlite: bool) -> ColumnElement[bool] | None:
    text = _element(type_, literal_)
    if text is None:
        return None
    return or_(value == values.LONG_ARRAY, _position(value, text, is_sqlite=is_sqlite) > 0)


def _element(type_: Type, literal_: Any) -> str | None:
    """Return a text that every array has, as JSON, that has the literal as an element."""
    if isinstance(literal_, int | float | Decimal):
        whole = int(literal_)
        if whole != literal_:
            return values.json_text(float(literal_))
        return str(whole) if isinstance(type_, IntType | YearType) or abs(whole) < _EXACT else None
    text = _text(literal_)
    return None if text is None else values.json_text(text)


def _position(value: ColumnElement[Any], text: str, *, is_sqlite: bool) -> ColumnElement[int]:
    return func.instr(value, text) if is_sqlite else func.strpos(value, text)


_DIGITS: Final = re.compile("^T(-?[0-9]{1,20})$")
_MAX_CHARACTER: Final = "\U0010ffff"
"""The last character. No text that begins with another sorts after repetitions of it."""
_EMPTY: Final = (values.text_value(""), values.array_value([]))
_MOMENTS: Final = ("datetime", "time")
