"""Values of conditions: accepted texts for each kind, and the normal form of each."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.filters.literals import JsonLiteral, read_value
from headwater.schemas import Type, parse_type


def parse_kind(source: str) -> Type:
    return parse_type(source if source.startswith("{") else f'{{"kind":"{source}"}}')


INT = '{"kind":"int","bitSize":8}'
UNSIGNED = '{"kind":"int","bitSize":8,"unsigned":true}'
FLOAT32 = '{"kind":"float","bitSize":32}'
FLOAT64 = '{"kind":"float","bitSize":64}'
DECIMAL = '{"kind":"decimal","precision":5,"scale":2}'
ENUM = '{"kind":"string","values":["","pro","' + "x" * 80 + '"]}'
UUID = "6F1D3C1E-9a3b-4c7e-8f00-1234567890ab"


@pytest.mark.parametrize(
    ("type", "text", "shown"),
    [
        ("string", "x", "x"),
        ("string", " é😀" * 20, " é😀" * 20),
        (ENUM, "", ""),
        (ENUM, "x" * 80, "x" * 80),
        (INT, "+7", "7"),
        (INT, "-0", "0"),
        (INT, "9223372036854775807", "9223372036854775807"),
        (UNSIGNED, "18446744073709551615", "18446744073709551615"),
        (FLOAT64, "007.5", "7.5"),
        (FLOAT64, "1000000", "1e+06"),
        (FLOAT64, "-0", "0"),
        (FLOAT64, "1e-7", "1e-07"),
        (FLOAT64, "0.1", "0.1"),
        (FLOAT32, "0.1", "0.1"),
        (FLOAT32, "16777217", "1.6777216e+07"),
        (DECIMAL, ".5", "0.5"),
        (DECIMAL, "1e3", "1000"),
        (DECIMAL, "12.340", "12.34"),
        (DECIMAL, "-0.0", "0"),
        ("datetime", "2024-09-19T14:36:57.264699103Z", "2024-09-19T14:36:57.264699103"),
        ("datetime", "2024-09-19T14:36:57.500", "2024-09-19T14:36:57.5"),
        ("datetime", "2024-09-19 14:36:57+02:00", "2024-09-19T12:36:57"),
        ("datetime", "2024-09-19T14:36-0130", "2024-09-19T16:06:00"),
        ("datetime", "2024-09-19T14:36+02", "2024-09-19T12:36:00"),
        ("datetime", "2024-09-19", "2024-09-19T00:00:00"),
        ("date", "2024-02-29", "2024-02-29"),
        ("time", "10:00:00.500", "10:00:00.5"),
        ("time", "10:00:00.000000000", "10:00:00"),
        ("year", "99", "99"),
        ("year", "0099", "99"),
        ("uuid", UUID, UUID.lower()),
        ("ip", "2001:DB8:0::1", "2001:db8::1"),
        ("ip", "::ffff:10.0.0.1", "::ffff:10.0.0.1"),
        ("json", "670.0", "670.0"),
        ("json", "ten", "ten"),
        ('{"kind":"array","elementType":{"kind":"date"}}', "2024-02-29", "2024-02-29"),
    ],
)
def test_values_and_how_they_are_shown(type: str, text: str, shown: str) -> None:
    value, normal = read_value(parse_kind(type), text)
    assert normal == shown
    assert read_value(parse_kind(type), shown) == (value, shown)


@pytest.mark.parametrize(
    ("type", "texts"),
    [
        ("string", ["", "x" * 61, "a\0b", "\ud800"]),
        (ENUM, ["free", "Pro", "pro "]),
        (INT, ["", "7.0", "07", "1e3", "0x1", " 7", "+", "٣", "9223372036854775808", "-9223372036854775809"]),
        (UNSIGNED, ["-1", "+1", "01", "18446744073709551616"]),
        (FLOAT64, [".5", "5.", "+5", "NaN", "Inf", "+Inf", "1e", "1e400", "1_0", "٣"]),
        (FLOAT32, ["1e39", "-3.5e38"]),
        (DECIMAL, ["NaN", "00.1", " 1", "1_000", "1e999999999999", "1e-38", "1e40"]),
        ("datetime", ["now", "2024-02-30", "2024-02-29T24:00:00", "2024-02-29T10", "0000-01-01", "2024-02-29T10:00:60",
                      "0001-01-01T00:00:00+01:00", "2024-02-29T10:00:00.0000000001", "2024-02-29Z", "2024-2-9"]),
        ("date", ["2024-02-30", "2024-2-9", "20240229", "2024-02-29T00:00:00", "0000-01-01", "٢٠٢٤-٠٢-٢٩"]),
        ("time", ["10:00", "24:00:00", "10:00:60", "10:00:00.", "10:00:00.0000000001", "10:00:00 rest", "10:00:00Z"]),
        ("year", ["0", "0000", "10000", "-1", "+1", "1.0", ""]),
        ("uuid", ["6f1d3c1e9a3b4c7e8f001234567890ab", f"{{{UUID}}}", UUID[:-1]]),
        ("ip", ["10.0.0", "10.0.0.256", "fe80::1%eth0", "10.0.0.0/8", "::ffff:10.0.0.1%1"]),
        ("json", ["", "\0", "x" * 61]),
    ],
)  # fmt: skip
def test_refused_values(type: str, texts: list[str]) -> None:
    for text in texts:
        with pytest.raises(ValueError, match="must"):
            read_value(parse_kind(type), text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("670.0", True), ("-1e3", True), (".5", True), ("+1", True), ("1e99", True), ("ten", False), ("1,5", False),
     ("NaN", False), ("0x1", False), (" 1", False), ("007", False), ("1e" + "9" * 50, False)],
)  # fmt: skip
def test_when_a_json_value_is_a_number(text: str, number: bool) -> None:
    value, _ = read_value(parse_kind("json"), text)
    assert isinstance(value, JsonLiteral)
    assert (value.number is not None) is number


KINDS = ["string", INT, UNSIGNED, FLOAT32, FLOAT64, DECIMAL, "datetime", "date", "time", "year", "uuid", "ip", "json"]
ALPHABET = st.text("0123456789+-.eE:TZ aäf\0\ud800/", max_size=30)


@given(st.sampled_from(KINDS), ALPHABET | st.floats().map(str) | st.decimals().map(str) | st.datetimes().map(str))
def test_any_text_is_a_value_or_a_rule(type: str, text: str) -> None:
    try:
        value, shown = read_value(parse_kind(type), text)
    except ValueError as error:
        assert str(error).startswith("must")
    else:
        assert read_value(parse_kind(type), shown) == (value, shown)
