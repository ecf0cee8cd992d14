"""The density of a screen has two decimals."""

import pytest
from msgspec import Raw

from headwater.events.context.screens import screen_of


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("2.625", "2.63"),
        ("2.624999", "2.62"),
        ("3.5000000", "3.50"),
        ("1e0", "1.00"),
        ("0.0051", "0.01"),
        ("9.994", "9.99"),
    ],
)
def test_density_is_rounded(sent: str, stored: str) -> None:
    text = Raw(b'{"width":390,"density":%s,"x":1.0}' % sent.encode())
    assert bytes(screen_of(text)) == b'{"width":390,"density":%s,"x":1.0}' % stored.encode()


@pytest.mark.parametrize(
    "density",
    (
        *("2", "2.5", "2.75", "0", "0.004", "9.995", "10.5", "-1.555", "1e999999999", "1e-9"),
        *("null", '"2.625"', "[]", "true", "1." + "3" * 100),
    ),
)
def test_other_densities_stay_as_sent(density: str) -> None:
    text = Raw(b'{"density":%s}' % density.encode())
    assert screen_of(text) is text


@pytest.mark.parametrize("sent", [b"null", b"5", b"{}", b'{"width":411.4}'])
def test_a_section_without_density_stays(sent: bytes) -> None:
    text = Raw(sent)
    assert screen_of(text) is text
