"""JSON values for hypothesis, and their texts as different clients write them."""

import json
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

_text = st.text(st.characters(codec="utf-8"), max_size=8)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.sampled_from([2**53 + 1, 2**63, 10**25, 1.0, -0.0]),
        st.floats(allow_nan=False, allow_infinity=False),
        _text,
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_text, inner, max_size=3)),
    max_leaves=6,
)


def json_text(value: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> str:
    """Return `value` as JSON: with or without spaces, with or without escapes."""
    separators = draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    return json.dumps(value, ensure_ascii=draw(st.booleans()), separators=separators)
