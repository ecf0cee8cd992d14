"""The rules of context.ip."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from headwater.events.context.addresses import caller_address, choose_address
from headwater.schemas import canonical_ip

V4, V6 = "203.0.113.9", "2001:db8:1234:5678::9"


def stored(sent: object, caller: str, *, is_client_side: bool = False) -> tuple[object, str]:
    """Return the stored address, None for none, and the whole address."""
    text = Raw() if sent is ... else Raw(json.dumps(sent).encode())
    address = choose_address(text, caller, is_client_side=is_client_side)
    return json.loads(bytes(address.text) or b"null"), address.whole


@pytest.mark.parametrize(
    ("sent", "of_ipv4", "of_ipv6"),
    [
        ("255.255.255.255", V4, V6),
        ("255.255.255.0", "203.0.113.0", "2001:db8:1234::"),
        ("255.255.0.0", "203.0.0.0", "2001:db8::"),
    ],
)
@pytest.mark.parametrize("is_client_side", [True, False])
def test_masks_keep_a_part_of_the_callers_address(sent: str, of_ipv4: str, of_ipv6: str, is_client_side: bool) -> None:
    assert stored(sent, V4, is_client_side=is_client_side) == (of_ipv4, V4)
    assert stored(sent, V6, is_client_side=is_client_side) == (of_ipv6, V6)
    assert stored(sent, "", is_client_side=is_client_side) == (None, "")


@pytest.mark.parametrize("is_client_side", [True, False])
def test_a_client_that_opts_out_has_no_address(is_client_side: bool) -> None:
    assert stored("0.0.0.0", V4, is_client_side=is_client_side) == (None, "")


@pytest.mark.parametrize("sent", [..., None])
def test_the_callers_address_counts_for_client_side_sources_alone(sent: object) -> None:
    assert stored(sent, V4, is_client_side=True) == (V4, V4)
    assert stored(sent, V4) == (None, "")
    assert stored(sent, "", is_client_side=True) == (None, "")


def test_an_empty_address_is_none() -> None:
    assert stored("", V4, is_client_side=True) == (V4, V4)
    assert stored("", V4) == ("", "")


@pytest.mark.parametrize(
    ("sent", "normal"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
        ("::FFFF:255.255.255.0", "::ffff:255.255.255.0"),  # which is no mask
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_an_address_has_its_canonical_text(sent: str, normal: str) -> None:
    assert stored(sent, V4, is_client_side=True) == (normal, normal)


@pytest.mark.parametrize(
    "sent", ["garbage", "1.2.3", "1.2.3.4, 5.6.7.8", "fe80::1%eth0", 5, ["1.2.3.4"], {"ip": V4}, True]
)
def test_what_is_no_address_stays_as_sent(sent: object) -> None:
    assert stored(sent, V4, is_client_side=True) == (sent, "")


@pytest.mark.parametrize(
    ("text", "address"),
    [(V4, V4), ("::ffff:203.0.113.9", V4), ("2001:DB8::1", "2001:db8::1"), ("fe80::1%eth0", ""), ("", ""), ("x", "")],
)
def test_the_address_of_a_connection(text: str, address: str) -> None:
    assert caller_address(text) == address


@given(
    st.one_of(st.text(max_size=20), st.ip_addresses().map(str), st.sampled_from(["255.255.255.0", "0.0.0.0"])),
    st.one_of(st.text(max_size=20), st.ip_addresses().map(str)),
    st.booleans(),
)
def test_what_may_be_looked_up_is_always_an_address(sent: str, caller: str, is_client_side: bool) -> None:
    text, whole = stored(sent, caller, is_client_side=is_client_side)
    if whole:
        assert canonical_ip(whole) == whole
        assert canonical_ip(str(text)) == text
