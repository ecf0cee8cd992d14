"""Strategies for bodies of responses that no vendor documents: any JSON, and documented members with any values."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import msgspec
from hypothesis import strategies as st

Values: TypeAlias = st.SearchStrategy[Any]

SCALARS: Values = st.none() | st.booleans() | st.integers(-3, 5) | st.floats() | st.text(max_size=3)
JSON: Values = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


def bodies(members: Mapping[str, Values]) -> st.SearchStrategy[bytes]:
    """Return bodies with some of the members, each with a value of its strategy or with any other, also cut off."""
    documents = st.fixed_dictionaries({}, optional={name: values | JSON for name, values in members.items()})
    encoded = (documents | JSON).map(lambda value: msgspec.json.encode(value))
    return encoded | st.binary(max_size=20) | st.builds(lambda body, size: body[:size], encoded, st.integers(0, 60))
