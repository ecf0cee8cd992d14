"""The JSON form of filters: strict parsing, and printing."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.filters import Condition, Filter, InvalidFilter, document, parse_json, read_document

SEED = '{"logical":"and","conditions":[{"property":"type","operator":"is","values":["track"]}]}'


def test_reading_and_writing() -> None:
    filter = parse_json(SEED)
    assert filter == Filter("and", (Condition("type", "is", ("track",)),))
    assert document(filter) == json.loads(SEED)
    assert parse_json("null") is None


@pytest.mark.parametrize("values", ["", ',"values":null', ',"values":[]'])
def test_no_values_are_left_out(values: str) -> None:
    filter = parse_json(f'{{"logical":"or","conditions":[{{"property":"a","operator":"exists"{values}}}]}}')
    assert filter == Filter("or", (Condition("a", "exists"),))
    assert document(filter) == {"logical": "or", "conditions": [{"property": "a", "operator": "exists"}]}


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("{", None),
        (b"\xff", None),
        ("[" * 100_000, None),
        ("[]", None),
        ("7", None),
        ("{}", None),
        ('{"logical":1,"conditions":[]}', "logical"),
        ('{"logical":"and","conditions":{}}', "conditions"),
        ('{"logical":"and","conditions":[],"not":true}', None),
        ('{"logical":"and","conditions":[{"property":"a"}]}', "conditions[0]"),
        ('{"logical":"and","conditions":[{"property":"a","operator":null}]}', "conditions[0].operator"),
        ('{"logical":"and","conditions":[{"property":"a","operator":"is","values":[1]}]}', "conditions[0].values[0]"),
        ('{"logical":"and","conditions":[{"property":"a","operator":"is","values":"x"}]}', "conditions[0].values"),
        ('{"logical":"and","conditions":[{"property":"a","operator":"is","value":"x"}]}', "conditions[0]"),
    ],
)
def test_invalid_filters(text: str | bytes, field: str | None) -> None:
    with pytest.raises(InvalidFilter) as raised:
        parse_json(text)
    assert raised.value.field == field
    assert raised.value.message.startswith("the filter is not valid: ")


def _forms(texts: st.SearchStrategy[str]) -> st.SearchStrategy[object]:
    """JSON in the form of a filter, whose parts may break a rule."""
    values = st.one_of(st.none(), st.lists(texts, max_size=3), st.lists(st.integers(), max_size=1))
    condition = st.fixed_dictionaries(
        {
            "property": st.sampled_from(["type", "traits.email", "", "a..b"]),
            "operator": st.sampled_from(["is", "=", ""]),
        },
        optional={"values": values, "value": texts},
    )
    return st.fixed_dictionaries(
        {"logical": st.sampled_from(["and", "or", "xor"]), "conditions": st.lists(condition, max_size=3)}
    )


@given(_forms(st.text(max_size=5)))
def test_json_of_the_form_of_a_filter_is_read_and_written_alike(form: object) -> None:
    try:
        filter = parse_json(json.dumps(form))
    except InvalidFilter:
        return
    assert filter is not None
    assert parse_json(json.dumps(document(filter))) == filter


@given(st.text(max_size=30) | st.binary(max_size=30))
def test_any_text_is_a_filter_or_an_error(text: str | bytes) -> None:
    with contextlib.suppress(InvalidFilter):
        parse_json(text)


def test_the_message_names_the_rule() -> None:
    with pytest.raises(InvalidFilter) as raised:
        parse_json('{"logical":1,"conditions":[]}')
    assert raised.value.reason == "logical is not of the form of a filter: expected `str`, got `int`"


def test_decoded_values() -> None:
    assert read_document(None) is None
    assert read_document(json.loads(SEED)) == parse_json(SEED)
