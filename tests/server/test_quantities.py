"""Sizes and durations as people write them."""

import pytest

from headwater.server.quantities import duration, size


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", 0), ("1024", 1024), ("1KiB", 1024), ("64 MiB", 64 << 20), ("10GiB", 10 << 30), ("2tib", 2 << 40)],
)
def test_sizes(text: str, value: int) -> None:
    assert size(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [("0", 0), ("90", 90), ("90s", 90), ("5m", 300), ("24h", 86_400), (" 7 D ", 604_800)]
)
def test_durations(text: str, value: int) -> None:
    assert duration(text) == value


@pytest.mark.parametrize("text", ["", "-1", "1.5GiB", "1e6", "10GB", "ten", "GiB", "٨٠", "1" * 16, "1KiB2"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number of bytes"):
        size(text)


@pytest.mark.parametrize("text", ["", "-1", "1.5h", "1w", "ever", "24:00"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="must be a number of seconds"):
        duration(text)
