"""Writes small location databases in MaxMind's format."""

from pathlib import Path
from typing import Final

from mmdb_writer import MMDBWriter
from netaddr import IPSet

MARKER: Final = b"\xab\xcd\xefMaxMind.com"
"""The bytes before the metadata of a database."""


def write_mmdb(path: Path, networks: dict[str, dict[str, object]], *, ip_version: int = 6) -> None:
    """Write a database with one record for each network. The networks do not overlap."""
    writer = MMDBWriter(
        ip_version=ip_version,
        database_type="Test-City",
        languages=["en"],
        description="a test",
        ipv4_compatible=ip_version == 6,
        float_type="f64",
    )
    for network, record in networks.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
