"""The network addresses that connectors may connect to.

Users enter hosts and URLs into settings and could make a server call itself or its neighbours. Private, local and
reserved addresses are therefore forbidden, unless the installation allows them. The check applies to the address that a
socket connects to, not to a name: a name can resolve to another address a moment later.
"""

import ipaddress
import re
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import msgspec

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARACTERS: Final = 8_000

_NAME: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*\.?")
_NUMERIC_END: Final = re.compile(r"(^|\.)([0-9]+|0x[0-9a-f]*)\.?$")
"""The end of a host that the URL standard reads as an IPv4 address."""

_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_IPV6_GLOBAL: Final = ipaddress.IPv6Network("2000::/3")
# In addition to the networks that `ipaddress` calls private: some versions call these global.
_RESERVED: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8",
        "100.64.0.0/10",
        "192.0.0.0/24",
        "192.88.99.0/24",
        "198.18.0.0/15",
        "2001::/23",
        "2001:db8::/32",
        "2002::/16",
        "3fff::/20",
    )
)
_SYSTEM_PORTS: Final = 1_024

WEB_PORTS: Final = frozenset({80, 443})
SFTP_PORTS: Final = frozenset({22})
NO_SYSTEM_PORTS: Final[frozenset[int]] = frozenset()
"""For protocols whose servers listen on ports from 1024, such as databases."""


class AddressForbidden(Exception):
    """The address or URL is not allowed. The message is for users."""


class AddressPolicy(msgspec.Struct, frozen=True):
    """Allows public addresses, and those in `allowed` networks.

    Of the ports below 1024 only those of the protocol are allowed, unless the address is in an allowed network.
    """

    allowed: tuple[Network, ...] = ()

    @classmethod
    def parse(cls, text: str) -> "AddressPolicy":
        """Read a setting: empty, "1" for every address, or networks separated by commas ("10.1.0.0/16,fd00::/8").

        Raises ValueError.
        """
        if text.strip() in ("", "0"):
            return cls()
        if text.strip() == "1":
            return ANY_ADDRESS
        return cls(tuple(ipaddress.ip_network(part.strip()) for part in text.split(",")))

    def check(self, host: str, port: int, ports: frozenset[int] = WEB_PORTS) -> None:
        """Check the numeric address of a connection before it is made.

        `ports` are the ports below 1024 on which public servers of the protocol listen. Raises AddressForbidden.
        """
        address = _unwrapped(_parsed(host))
        if any(address in network for network in self.allowed):
            return
        if not _is_public(address):
            raise AddressForbidden("the address is not public")
        if port < _SYSTEM_PORTS and port not in ports:
            raise AddressForbidden(f"port {port} is not allowed")

    def check_url(self, url: str) -> None:
        """Check a URL without resolving its host. Raises AddressForbidden.

        A host is a name, whose addresses are checked when a socket connects to them, or an address in its usual form.
        Resolvers also accept decimal, hexadecimal, octal and short forms of IPv4 addresses, which are forbidden.
        """
        parts = _split(url)
        if parts.scheme not in ("http", "https"):
            raise AddressForbidden("the URL must begin with http:// or https://")
        if not parts.hostname:
            raise AddressForbidden("the URL has no host")
        if parts.username is not None or parts.password is not None:
            raise AddressForbidden("the URL must not have a user or a password")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if "[" in parts.netloc or _NUMERIC_END.search(parts.hostname):
            self.check(parts.hostname, port)
        elif not _NAME.fullmatch(parts.hostname):
            raise AddressForbidden("the host of the URL is not valid")


ANY_ADDRESS: Final = AddressPolicy((ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")))
"""Allows every address: for tests, and for installations whose users may reach any system."""


def find_broken_url_rule(url: str) -> str | None:
    """Return the rule that a URL in settings breaks, or None. It completes the sentence "the value …".

    The addresses of the host are checked when a socket connects to them, because the installation decides which ones
    are allowed.
    """
    try:
        ANY_ADDRESS.check_url(url)
    except AddressForbidden:
        return "must be an http or https URL without user and password"
    return "must not have a fragment" if "#" in url else None


def _split(url: str) -> SplitResult:
    if len(url) > MAX_URL_CHARACTERS or not url.isascii() or not url.isprintable() or " " in url:
        raise AddressForbidden("the URL is too long, or has characters that are not allowed")
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises if it is not a port
    except ValueError:
        raise AddressForbidden("the URL is not valid") from None
    return parts


def _parsed(host: str) -> Address:
    if "%" in host:
        raise AddressForbidden("the address has a zone")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        raise AddressForbidden("the address is not valid") from None


def _unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 address leads to, or the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_public(address: Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _IPV6_GLOBAL:
        return False
    if address.is_multicast or not address.is_global:
        return False
    return not any(address in network for network in _RESERVED)
