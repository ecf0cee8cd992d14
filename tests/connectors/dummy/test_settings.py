"""The dummy's settings: all of them have defaults, and a delay is a duration or a range of them."""

from datetime import timedelta
from typing import Any

import pytest

from headwater.connectors.dummy.settings import DummySettings, parse_delay
from tests.connectors.invalid import invalid_settings

MS = timedelta(milliseconds=1)


def test_all_settings_have_defaults() -> None:
    assert DummySettings.read({}) == DummySettings()
    assert DummySettings().document() == {
        "customerExportFailPercentage": 0,
        "operationDelay": "",
        "urlForDispatchingEvents": "",
        "numberOfCustomers": 10,
    }


def test_all_settings_can_be_set() -> None:
    given = {
        "customerExportFailPercentage": 30.0,
        "operationDelay": "10ms-50ms",
        "urlForDispatchingEvents": "http://localhost:9000/events?x=1",
        "numberOfCustomers": 25,
    }
    settings = DummySettings.read(given)
    assert settings == DummySettings(
        export_fail_percentage=30,
        operation_delay="10ms-50ms",
        dispatch_url="http://localhost:9000/events?x=1",
        number_of_customers=25,
    )
    assert settings.delay_range == (10 * MS, 50 * MS)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("", 0 * MS, 0 * MS),
        ("0", 0 * MS, 0 * MS),
        ("10ms", 10 * MS, 10 * MS),
        ("1.5s", 1500 * MS, 1500 * MS),
        ("1m30s", 90_000 * MS, 90_000 * MS),
        ("10ms-50ms", 10 * MS, 50 * MS),
        ("0-1h", 0 * MS, 3_600_000 * MS),
        ("500\u00b5s", MS / 2, MS / 2),
        ("24h", timedelta(hours=24), timedelta(hours=24)),
    ],
)
def test_delays_are_parsed(text: str, least: timedelta, most: timedelta) -> None:
    assert parse_delay(text) == (least, most)


@pytest.mark.parametrize(
    "text",
    [
        "10",
        "ms",
        "10 ms",
        "-10ms",
        "10ms-",
        "-",
        "50ms-10ms",
        "24h1ns1ms",
        "25h",
        "1d",
        "9" * 20 + "h",
        "10ms-20ms-30ms",
    ],
)
def test_an_invalid_delay_is_rejected(text: str) -> None:
    with invalid_settings("settings.operationDelay"):
        DummySettings.read({"operationDelay": text})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("customerExportFailPercentage", -1),
        ("customerExportFailPercentage", 101),
        ("customerExportFailPercentage", "5"),
        ("operationDelay", 5),
        ("urlForDispatchingEvents", "example.com"),
        ("urlForDispatchingEvents", "ftp://example.com"),
        ("urlForDispatchingEvents", "http://"),
        ("urlForDispatchingEvents", "http://[::1"),
        ("urlForDispatchingEvents", "http://h:99999/"),
        ("urlForDispatchingEvents", "http://h/a b"),
        ("urlForDispatchingEvents", "http://h/\n"),
    ],
)
def test_invalid_settings_are_rejected(name: str, value: Any) -> None:
    with invalid_settings(f"settings.{name}"):
        DummySettings.read({name: value})
