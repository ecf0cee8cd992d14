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


@st.composite
def bodies(draw: st.DrawFn, members: Mapping[str, Values]) -> bytes:
    """Return a body with most of the members, each with a value of its strategy. Some have a member with another value,
    are other JSON or no JSON, or are cut off."""
    kind = draw(st.sampled_from(["documented", "documented", "documented", "odd", "other", "bytes", "cut"]))
    if kind == "bytes":
        return draw(st.binary(max_size=20))
    left_out = draw(st.sets(st.sampled_from(sorted(members)), max_size=len(members) - 1))
    document = {name: draw(values) for name, values in members.items() if name not in left_out}
    if kind == "odd":
        document[draw(st.sampled_from(sorted(members)))] = draw(JSON)
    body = msgspec.json.encode(draw(JSON) if kind == "other" else document)
    return body[: draw(st.integers(0, len(body)))] if kind == "cut" else body
