"""The `first` and `limit` of every list."""

import pytest

from headwater.api.pages import page_of
from headwater.base.errors import BadRequest


@pytest.mark.parametrize(
    ("first", "limit", "page"),
    [
        (None, None, (0, 100)),
        (0, 1, (0, 1)),
        (7, None, (7, 100)),
        (None, 1000, (0, 1000)),
        (2**31 - 1, 5, (2**31 - 1, 5)),
    ],
)
def test_defaults_and_limits(first: int | None, limit: int | None, page: tuple[int, int]) -> None:
    assert page_of(first, limit) == page


@pytest.mark.parametrize(
    ("first", "limit", "field", "message"),
    [
        (-1, None, "first", "first must be 0 or greater"),
        (None, 0, "limit", "limit must be in the range from 1 to 1000"),
        (None, -1, "limit", "limit must be in the range from 1 to 1000"),
        (None, 1001, "limit", "limit must be in the range from 1 to 1000"),
    ],
)
def test_out_of_range(first: int | None, limit: int | None, field: str, message: str) -> None:
    with pytest.raises(BadRequest) as raised:
        page_of(first, limit)
    assert (raised.value.field, raised.value.message) == (field, message)
