"""Chooses `context.ip`: the person's address from the client, masked or hidden if it wants, or that of the connection.

A client that may not pass on a whole address sends a mask instead, and one that may not pass on any sends 0.0.0.0.
"""

import ipaddress
from functools import lru_cache
from typing import Final

import msgspec
from msgspec import Raw, Struct

from headwater.events.raw import ABSENT, is_absent, is_string
from headwater.schemas import canonical_ip

MAX_CACHED: Final = 8192
MAX_BYTES: Final = 64
"""Maximum size of a text that can be an address."""

_OPT_OUT: Final = "0.0.0.0"
_MASKS: Final = {"255.255.255.255": (32, 128), "255.255.255.0": (24, 48), "255.255.0.0": (16, 32)}
"""Number of bits of the caller's address to keep, of IPv4 and of IPv6, by the mask that the client sends."""

_decode = msgspec.json.Decoder(str).decode
_encode = msgspec.json.Encoder().encode


class Address(Struct, frozen=True):
    """The address to store, and the address to look up."""

    text: Raw
    """The address for `context.ip`, as JSON; ABSENT for none."""
    whole: str = ""
    """The whole address, which is not stored if the client asked for a mask; empty if it is unknown."""


def choose_address(sent: Raw, caller: str, *, is_client_side: bool) -> Address:
    """Return the address of an event whose context has `sent`, in a call from `caller`.

    A text that is not an address remains as sent. The caller's address is used on request, and for client-side sources
    that sent nothing.
    """
    if len(sent) > MAX_BYTES:
        return Address(sent)
    address = _choose_address(bytes(sent), caller, is_client_side)
    return Address(sent, address.whole) if address.text == sent else address


@lru_cache(maxsize=MAX_CACHED)
def _choose_address(own: bytes, caller: str, is_client_side: bool) -> Address:
    sent = Raw(own)
    if is_absent(sent) or own == b'""':
        whole = caller_address(caller) if is_client_side else ""
        return Address(Raw(_encode(whole)) if whole else sent, whole)
    if not is_string(sent):
        return Address(sent)
    text = _decode(sent)
    if text == _OPT_OUT:
        return Address(ABSENT)
    if (bits := _MASKS.get(text)) is not None:
        whole = caller_address(caller)
        return Address(Raw(_encode(_masked(whole, *bits))) if whole else ABSENT, whole)
    try:
        normal = canonical_ip(text)
    except ValueError:
        return Address(sent)
    return Address(sent if normal == text else Raw(_encode(normal)), normal)


def caller_address(text: str) -> str:
    """Return the address of a connection in its canonical form, IPv4 as such; empty if it is not an address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return ""
        address = address.ipv4_mapped or address
    return str(address)


def _masked(address: str, bits_of_4: int, bits_of_6: int) -> str:
    bits = bits_of_6 if ":" in address else bits_of_4
    return str(ipaddress.ip_network((address, bits), strict=False).network_address)
