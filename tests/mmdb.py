"""Writes small databases of MaxMind's format, as its specification 2.0 describes it."""

import ipaddress
import struct
from pathlib import Path

MARKER = b"\xab\xcd\xefMaxMind.com"
_GAP = 16
"""Zero bytes between the tree and the data, which pointers count."""
_INTEGERS = {"node_count": 6, "build_epoch": 9}
"""Readers want an integer of 32 and of 64 bits there; all others have 16."""


def write_mmdb(path: Path, networks: dict[str, dict[str, object]], *, ip_version: int = 6) -> None:
    """A database that knows the records of some networks, none of which lies in another."""
    nodes: list[list[int | None]] = [[None, None]]
    data, places = b"", []
    for network, record in networks.items():
        bits = _bits(network, ip_version)
        node = 0
        for bit in bits[:-1]:
            following = nodes[node][bit]
            if following is None:
                nodes.append([None, None])
                following = nodes[node][bit] = len(nodes) - 1
            node = following
        places.append((node, bits[-1], len(data)))
        data += _value(record)
    for node, bit, offset in places:
        nodes[node][bit] = -offset - 1  # told from a node by its sign
    metadata = {
        "binary_format_major_version": 2,
        "binary_format_minor_version": 0,
        "build_epoch": 1_700_000_000,
        "database_type": "Test-City",
        "description": {"en": "a test"},
        "ip_version": ip_version,
        "languages": ["en"],
        "node_count": len(nodes),
        "record_size": 32,
    }
    tree = b"".join(struct.pack(">I", _pointer(side, len(nodes))) for node in nodes for side in node)
    path.write_bytes(tree + bytes(_GAP) + data + MARKER + _value(metadata))


def _bits(network: str, ip_version: int) -> list[int]:
    parsed = ipaddress.ip_network(network)
    width = 128 if ip_version == 6 else 32
    length = parsed.prefixlen + (96 if ip_version == 6 and parsed.version == 4 else 0)
    number = int(parsed.network_address)
    return [number >> (width - 1 - place) & 1 for place in range(length)]


def _pointer(side: int | None, node_count: int) -> int:
    if side is None:
        return node_count
    return side if side >= 0 else node_count + _GAP - side - 1


def _value(value: object, integers: int = 5) -> bytes:
    match value:
        case str():
            return _control(2, len(value.encode())) + value.encode()
        case float():
            return _control(3, 8) + struct.pack(">d", value)
        case int():
            digits = value.to_bytes((value.bit_length() + 7) // 8)
            return _control(integers, len(digits)) + digits
        case dict():
            members = (_value(name) + _value(member, _INTEGERS.get(name, 5)) for name, member in value.items())
            return _control(7, len(value)) + b"".join(members)
        case list():
            return _control(11, len(value)) + b"".join(map(_value, value))
    raise TypeError(value)


def _control(kind: int, size: int) -> bytes:
    """The byte, or two, before a value; sizes to 28 are enough for tests."""
    assert size < 29
    return bytes([kind << 5 | size]) if kind < 8 else bytes([size, kind - 7])
