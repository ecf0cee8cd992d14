import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.schemas import JSON_NULL, MISSING, Json, Record, canonical_ip, canonical_uuid, value_at

RECORD: Record = {
    "a": 1,
    "o": {"x": None, "p": {"y": "deep"}},
    "n": None,
    "j": JSON_NULL,
    "d": Json('{"k":1}'),
    "l": [{"x": 1}],
}


def test_three_states() -> None:
    assert value_at(RECORD, ("missing",)) is MISSING
    assert value_at(RECORD, ("n",)) is None
    assert value_at(RECORD, ("j",)) == JSON_NULL
    assert not MISSING


@pytest.mark.parametrize(
    "path", [("o", "z"), ("n", "x"), ("a", "x"), ("d", "k"), ("l", "x"), ("missing", "x"), ("o", "p", "y", "z")]
)
def test_nothing_there(path: tuple[str, ...]) -> None:
    assert value_at(RECORD, path) is MISSING


def test_inside_objects() -> None:
    assert value_at(RECORD, ("o", "x")) is None
    assert value_at(RECORD, ("o", "p", "y")) == "deep"


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.1", "10.0.0.1"), ("255.255.255.255", "255.255.255.255"), ("2001:0DB8::0001", "2001:db8::1"),
        ("::", "::"), ("::ffff:102:304", "::ffff:1.2.3.4"), ("::FFFF:1.2.3.4", "::ffff:1.2.3.4"),
    ],
)  # fmt: skip
def test_addresses(text: str, canonical: str) -> None:
    assert canonical_ip(text) == canonical


@pytest.mark.parametrize(
    "text", ["", "1", "10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.1/8", "fe80::1%eth0", "::1 ", "\u0661.0.0.1", "a"]
)
def test_invalid_addresses(text: str) -> None:
    with pytest.raises(ValueError, match="must be an IP address"):
        canonical_ip(text)


@given(st.ip_addresses())
def test_canonical_addresses_stay(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    canonical = canonical_ip(str(address))
    assert ipaddress.ip_address(canonical) == address
    assert canonical_ip(canonical) == canonical


def test_uuids() -> None:
    assert canonical_uuid("F47AC10B-58CC-4372-A567-0E02B2C3D479") == "f47ac10b-58cc-4372-a567-0e02b2c3d479"
    for text in [
        "",
        "f47ac10b58cc4372a5670e02b2c3d479",
        "{f47ac10b-58cc-4372-a567-0e02b2c3d479}",
        "f47ac10b-58cc-4372-a567-0e02b2c3d47g",
    ]:
        with pytest.raises(ValueError, match="must be a UUID"):
            canonical_uuid(text)
