"""Locations from a database in MaxMind's format, and errors about other files."""

import dataclasses
from pathlib import Path

import pytest

from headwater.events.context import Location
from headwater.server.errors import StartupError
from headwater.server.geolocation import open_locator
from headwater.server.preflight import check_location_database
from headwater.server.settings import Settings
from tests.mmdb import MARKER, write_mmdb

ROME = {
    "city": {"names": {"de": "Rom", "en": "Rome"}},
    "country": {"iso_code": "IT", "names": {"en": "Italy"}},
    "location": {"latitude": 41.9, "longitude": 12.5, "accuracy_radius": 10},
}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "city.mmdb"
    write_mmdb(
        path,
        {
            "203.0.113.0/24": ROME,
            "2001:db8::/32": {"country": {"iso_code": "FR"}},
            "198.51.100.0/25": {"city": {"names": {"de": "Mailand"}}, "location": {"latitude": 45}},
            "198.51.100.128/25": {"traits": {"x": "y"}},
            "192.0.2.0/24": {"city": "Rome", "country": ["IT"], "location": {"latitude": "north"}},
        },
    )
    return path


@pytest.mark.parametrize(
    ("ip", "place"),
    [
        ("203.0.113.9", Location("Rome", "IT", 41.9, 12.5)),
        ("2001:db8:1::1", Location(country="FR")),
        ("198.51.100.1", Location(latitude=45.0)),
        ("198.51.100.129", None),  # the database has it, but nothing that we want
        ("192.0.2.1", None),  # other databases of this format say other things at these paths
        ("203.0.112.1", None),
        ("::1", None),
    ],
)
def test_places(database: Path, ip: str, place: Location | None) -> None:
    locate = open_locator(database)
    assert locate(ip) == place
    assert locate(ip) == place


def test_a_database_of_ipv4_knows_no_ipv6(tmp_path: Path) -> None:
    write_mmdb(tmp_path / "4.mmdb", {"203.0.113.0/24": ROME}, ip_version=4)
    locate = open_locator(tmp_path / "4.mmdb")
    assert locate("2001:db8::1") is None
    assert locate("203.0.113.1") == Location("Rome", "IT", 41.9, 12.5)


def test_a_start_without_a_database_needs_none() -> None:
    check_location_database(Settings())


def test_a_start_with_a_database(database: Path) -> None:
    check_location_database(dataclasses.replace(Settings(), maxmind_db=database))


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (None, "HEADWATER_MAXMIND_DB cannot be read: {path} (No such file or directory)"),
        (b"", "HEADWATER_MAXMIND_DB is not a database of MaxMind's format: {path}"),
        (b"garbage" * 100, "HEADWATER_MAXMIND_DB is not a database of MaxMind's format: {path}"),
        (MARKER, "HEADWATER_MAXMIND_DB is not a database of MaxMind's format: {path}"),
    ],
)
def test_a_start_with_a_file_that_is_none_says_so(tmp_path: Path, content: bytes | None, rule: str) -> None:
    path = tmp_path / "x.mmdb"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StartupError) as raised:
        check_location_database(dataclasses.replace(Settings(), maxmind_db=path))
    assert str(raised.value) == rule.format(path=path)


def test_a_folder_is_none(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="HEADWATER_MAXMIND_DB"):
        check_location_database(dataclasses.replace(Settings(), maxmind_db=tmp_path))
