"""The addresses that connectors may connect to: public ones, and those that the installation allows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.connectors.addresses import (
    ANY_ADDRESS,
    NO_SYSTEM_PORTS,
    SFTP_PORTS,
    AddressForbidden,
    AddressPolicy,
)

PUBLIC = ["8.8.8.8", "1.1.1.1", "172.15.255.255", "172.32.0.1", "192.0.1.1", "2606:4700::1111", "64:ff9b::808:808"]
PRIVATE = [
    *("0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1"),
    *("172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1"),
    *("203.0.113.1", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1"),
    *("64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "2002:808:808::", "3fff::1"),
    *("fc00::1", "fd12::1", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1", "5f00::1"),
]


OTHER_FORMS_OF_IPV4 = [
    *("2130706433", "0x7f000001", "0x7F000001", "017700000001", "127.1", "127.0.1", "0", "0x", "0x0"),
    *("0177.0.0.1", "0x7f.0.0.1", "127.0.0.0x1", "127.0.0.01", "127.0.0.1.", "8.8.8.8.", "8.8.2056", "08.8.8.8"),
    *("134744072", "0x08080808", "8.8.8.8.8", "8.8.8.256", "a.8", "a.0x8"),
]
"""Public and private ones: resolvers read them, and the client does not."""


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_allowed(address: str) -> None:
    AddressPolicy().check(address, 443)


@pytest.mark.parametrize("address", [*PRIVATE, "localhost", "", "127.1", "0x7f.1", "2130706433", "8.8.8.8.8"])
def test_other_addresses_are_forbidden(address: str) -> None:
    with pytest.raises(AddressForbidden):
        AddressPolicy().check(address, 443)


@pytest.mark.parametrize("address", [one for one in PRIVATE if "%" not in one])
def test_an_installation_can_allow_every_address(address: str) -> None:
    ANY_ADDRESS.check(address, 5432)


def test_an_installation_can_allow_networks() -> None:
    policy = AddressPolicy.parse("10.1.0.0/16, fd00::/8")
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "8.8.8.8"):
        policy.check(address, 8080)
    policy.check("10.1.2.3", 25)
    for address in ("10.2.0.1", "127.0.0.1", "fc00::1"):
        with pytest.raises(AddressForbidden):
            policy.check(address, 8080)


@pytest.mark.parametrize(("text", "policy"), [("", AddressPolicy()), ("0", AddressPolicy()), ("1", ANY_ADDRESS)])
def test_the_setting_is_parsed(text: str, policy: AddressPolicy) -> None:
    assert AddressPolicy.parse(text) == policy


@pytest.mark.parametrize("text", ["yes", "10.0.0.0/33", "10.0.0.1/8", "example.com"])
def test_an_invalid_setting_is_rejected(text: str) -> None:
    with pytest.raises(ValueError):
        AddressPolicy.parse(text)


@pytest.mark.parametrize(
    ("port", "allowed"), [(80, True), (443, True), (1024, True), (6379, True), (22, False), (25, False)]
)
def test_system_ports_are_forbidden_except_for_the_web(port: int, allowed: bool) -> None:
    if allowed:
        AddressPolicy().check("8.8.8.8", port)
    else:
        with pytest.raises(AddressForbidden):
            AddressPolicy().check("8.8.8.8", port)


@pytest.mark.parametrize(
    ("port", "ports", "allowed"),
    [
        *((22, SFTP_PORTS, True), (2222, SFTP_PORTS, True), (25, SFTP_PORTS, False), (443, SFTP_PORTS, False)),
        *((5432, NO_SYSTEM_PORTS, True), (1024, NO_SYSTEM_PORTS, True), (443, NO_SYSTEM_PORTS, False)),
    ],
)
def test_each_protocol_has_its_system_ports(port: int, ports: frozenset[int], allowed: bool) -> None:
    if allowed:
        AddressPolicy().check("8.8.8.8", port, ports)
    else:
        with pytest.raises(AddressForbidden):
            AddressPolicy().check("8.8.8.8", port, ports)
    ANY_ADDRESS.check("8.8.8.8", port, ports)


@pytest.mark.parametrize(
    "url",
    [
        *("https://example.com/a?b=c#d", "http://example.com:8080/", "https://8.8.8.8/", "http://[2606:4700::1111]/"),
        *(
            "https://EXAMPLE.com./",
            "https://xn--bcher-kva.example/",
            "https://a_b.example/",
            "https://1.2.3.4.example/",
        ),
        *("https://0x7f.example/", "https://127-0-0-1.example/", "https://localhost/", "https://[64:ff9b::8.8.8.8]/"),
    ],
)
def test_urls_that_are_allowed(url: str) -> None:
    AddressPolicy().check_url(url)


@pytest.mark.parametrize(
    "url",
    [
        *(
            f"http://[{address}]/" if ":" in address else f"http://{address}/"
            for address in PRIVATE
            if "%" not in address
        ),
        *("", "example.com", "ftp://example.com/", "file:///etc/passwd", "http://", "http:///a", "//example.com/"),
        *("http://user@example.com/", "http://user:password@example.com/", "http://:@example.com/"),
        *("http://127.0.0.1/", "http://[::1]/", "http://[::ffff:127.0.0.1]/", "http://169.254.169.254/latest/"),
        *("http://[::1/", "http://h:99999/", "http://h:x/", "http://h/a b", "http://h/\n", "http://h/\0", "http://é/"),
        "http://h/" + "x" * 10_000,
        *[f"http://{host}/" for host in OTHER_FORMS_OF_IPV4],
        *("http://%31%32%37.0.0.1/", "http://a%2eb/", "http://a..b/", "http://.a/", "http://a,b/", "http://a;b/"),
        *("http://8.8.8.8\\@h/", "http://h\\@8.8.8.8/", "http://h\\.8.8.8.8/", "http://[v1.a]/", "http://[::1%25lo]/"),
    ],
)
def test_urls_that_are_forbidden(url: str) -> None:
    with pytest.raises(AddressForbidden):
        AddressPolicy().check_url(url)


@given(st.ip_addresses(v=4))
def test_an_address_in_another_notation_is_the_same_address(address: object) -> None:
    def allowed(text: str) -> bool:
        try:
            AddressPolicy().check(text, 443)
        except AddressForbidden:
            return False
        return True

    assert allowed(f"::ffff:{address}") == allowed(f"64:ff9b::{address}") == allowed(str(address))
