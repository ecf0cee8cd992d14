"""The values of new profiles are those of each profile."""

from typing import Any, Final

import hypothesis.strategies as st
import msgspec
from hypothesis import given

from headwater.state.profiles.values import MAX_TEXT, new_rows, read_values

TEXTS: Final = ["", "a", "é", "a\0b", "x" * MAX_TEXT, "x" * (MAX_TEXT + 1)]
scalars: Final = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(-2, 2), st.sampled_from(TEXTS))
documents: Final = st.dictionaries(
    st.sampled_from(["a", "b", "not a name"]),
    st.one_of(scalars, st.lists(scalars, max_size=2), st.dictionaries(st.sampled_from(["a", "c"]), scalars)),
)


@given(st.lists(documents, max_size=6), st.booleans())
def test_new_rows_are_the_values_of_each_profile(some: list[dict[str, Any]], has_surrogate: bool) -> None:
    texts = [msgspec.json.encode(document).decode() for document in some]
    if has_surrogate:
        texts.insert(len(texts) // 2, '{"a":"\\ud800"}')
    profiles = list(enumerate(texts, 7))
    expected = [(property, id_, value) for id_, text in profiles for property, value in read_values(1, text).items()]
    assert new_rows(1, profiles) == sorted(expected)
