import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.schemas import JSON_NULL, InvalidValue, Json
from headwater.schemas.json_value import MAX_JSON_DEPTH, excerpt, reject_repeats
from tests.complexity import assert_linear
from tests.jsontexts import json_text, json_values


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (' { "a" : 1.00 , "a":2 } ', '{"a":1.00,"a":2}'),
        ("123456789012345678901234567890.10", "123456789012345678901234567890.10"),
        ("1E400", "1E400"),
        ('"\\u00e9\\/"', '"\\u00e9\\/"'),
        (" null ", "null"),
        ("[]", "[]"),
    ],
)
def test_the_text_survives_but_not_its_spaces(given: str, text: str) -> None:
    assert Json.parse(given).text == text
    assert Json.parse(given.encode()).text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "nul",
        "01",
        "1.",
        "NaN",
        "'a'",
        '"\ud800"',
        '"\\ud800"',
        '"\\q"',
        '"\x01"',
        "1 2",
        "[1,]",
        b'"\xff"',
        "\ufeff1",
    ],
)
def test_invalid_json(text: str | bytes) -> None:
    with pytest.raises(InvalidValue, match="the value must be JSON in UTF-8"):
        Json.parse(text)


@pytest.mark.parametrize("levels", [101, 5_000, 500_000])
def test_depth_is_bounded(levels: int) -> None:
    with pytest.raises(InvalidValue, match="is nested deeper than 100 levels"):
        Json.parse("[" * levels + "]" * levels)


def test_brackets_in_texts_do_not_count() -> None:
    deep = "[" * MAX_JSON_DEPTH + '"' + '[\\"' * 200 + '"' + "]" * MAX_JSON_DEPTH
    assert Json.parse(deep).text == deep


def test_of_python() -> None:
    assert Json.of({"a": [1, None, Decimal("1.10"), "é"]}).text == '{"a":[1,null,1.10,"é"]}'
    assert Json.of(None) == JSON_NULL
    assert JSON_NULL.is_null
    assert not Json.of(0).is_null


@pytest.mark.parametrize("text", ['{"a":1,"b":2,"a":3}', '[{"x":{"a":1,"a":1}}]', '{"a":1,"\\u0061":2}'])
def test_repeats(text: str) -> None:
    with pytest.raises(InvalidValue, match='has the member "a" twice'):
        reject_repeats(text)


def test_finding_a_late_repeat_is_linear_in_the_number_of_members() -> None:
    def rejected(size: int) -> None:
        members = ",".join(f'"{index}":0' for index in range(size))
        with pytest.raises(InvalidValue, match=f'has the member "{size - 1}" twice'):
            reject_repeats(f'{{{members},"{size - 1}":0}}')

    assert_linear(rejected, 100_000)


@pytest.mark.parametrize("text", ["{}", '{"a":{"a":1}}', "1" * 10_000, "1e999999999999"])
def test_a_text_without_repeats_passes(text: str) -> None:
    reject_repeats(text)
    with pytest.raises(InvalidValue, match="twice"):  # the same text, inside another one
        reject_repeats(f'{{"x":{text},"x":{text}}}')


def test_repeats_are_looked_for_in_json_only() -> None:
    with pytest.raises(InvalidValue, match="must be JSON"):
        reject_repeats("{")
    with pytest.raises(InvalidValue, match="is nested too deeply"):
        reject_repeats("[" * 100_000)


def test_excerpts_are_short() -> None:
    assert excerpt("x" * 100) == "x" * 60 + "…"


@given(st.data(), json_values)
def test_the_text_has_the_same_value(data: st.DataObject, value: object) -> None:
    text = json_text(value, data.draw)
    assert json.loads(Json.parse(text).text) == json.loads(text)


@given(st.text() | st.binary())
def test_any_text_is_json_or_an_error(text: str | bytes) -> None:
    try:
        json.loads(Json.parse(text).text)
    except InvalidValue as error:
        assert error.path == ""
