"""Values of SDKs that JSON does not allow."""

import json
import math
import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.events.wellformed import well_formed


@pytest.mark.parametrize(
    ("body", "corrected"),
    [
        (b'{"a":NaN}', b'{"a":null}'),
        (b"[NaN,Infinity,-Infinity, NaN]", b"[null,null,null, null]"),
        (b'{"NaN":"-Infinity","a\\"NaN":NaN}', b'{"NaN":"-Infinity","a\\"NaN":null}'),
        (rb'"\ud83d"', rb'"\ufffd"'),
        (rb'"\uDe80"', rb'"\ufffd"'),
        (rb'{"\ud83d":"x\ud83d\ud83d\ude80\ude80"}', rb'{"\ufffd":"x\ufffd\ud83d\ude80\ufffd"}'),
        (rb'"\\ud83d \\\ud83d \u00e9"', rb'"\\ud83d \\\ufffd \u00e9"'),
    ],
)
def test_what_is_put_right(body: bytes, corrected: bytes) -> None:
    assert well_formed(body) == corrected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nan",
        b"NaNa",
        b"aNaN",
        b"1NaN",
        b'"NaN',
        rb'"\ud8"',
        rb'"\u"',
        b'"\\',
        rb"\ud83d",
        "\u00e9\u20ac".encode(),
        b"\xff\xed\xa0\x80",
        rb'{"a": "\ud83d\ude80", "b": [1, true, null, "\u0000\n"]}',
    ],
)
def test_what_stays_as_it_is(body: bytes) -> None:
    assert well_formed(body) == body


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.floats()
    | st.text(st.characters() | st.characters(categories=["Cs"]) | st.sampled_from('"\\NaN'), max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=12,
)


def meant(value: object) -> object:
    """Return the possible JSON spellings of a value."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case str():
            return re.sub("[\ud800-\udfff]", "\ufffd", value)
        case list():
            return [meant(element) for element in value]
        case dict():
            return {name: meant(element) for name, element in value.items()}
    return value


@given(JSON)
def test_whatever_python_writes_is_json_then_and_says_what_it_said(value: object) -> None:
    text = json.dumps(value).encode()
    assert msgspec.json.decode(well_formed(text)) == meant(json.loads(text))
    if meant(value) == value:
        assert well_formed(text) == text


def test_quotes_without_an_end_take_no_time_of_their_own() -> None:
    body = b'"' + b'\\"' * 500_000  # hours, if each quote began a search to the end
    assert well_formed(body) == body
