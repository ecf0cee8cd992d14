"""Conversions of texts to dates and times."""

from datetime import date

import pytest

from headwater.schemas import DateTime, InvalidValue, Time
from headwater.transforms.mapping.conversions.datetimes import (
    iso_to_datetime,
    text_to_date,
    text_to_time,
    text_to_uuid,
)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-05-01", "2024-05-01T00:00:00Z"),
        ("2024-05-01T10:00", "2024-05-01T10:00:00Z"),
        ("2024-05-01t10:00z", "2024-05-01T10:00:00Z"),
        ("2024-05-01 10:00:30", "2024-05-01T10:00:30Z"),
        ("2024-05-01T10:00:30.5", "2024-05-01T10:00:30.5Z"),
        ("2024-05-01T10:00:30,5Z", "2024-05-01T10:00:30.5Z"),
        ("2024-05-01T10:00:30.1234567891Z", "2024-05-01T10:00:30.123456789Z"),
        ("2024-05-01T10:00:30+02:00", "2024-05-01T08:00:30Z"),
        ("2024-05-01T10:00:30-0230", "2024-05-01T12:30:30Z"),
        ("2024-05-01T10:00+02", "2024-05-01T08:00:00Z"),
    ],
)
def test_reads_iso_8601(text: str, moment: str) -> None:
    assert iso_to_datetime(text) == DateTime.parse(moment)


@pytest.mark.parametrize(
    "text",
    ["", "2024", "2024-05", "2024-05-01T", "2024-05-01T10", "2024-05-01T10:00.5", "2024-05-01T25:00", "2024-02-30",
     "2024-05-01Z", "20240501T100000Z", "2024-05-01T10:00:00 UTC", "2024-05-01T10:00:60Z", "0000-01-01"],
)  # fmt: skip
def test_rejects_other_moments(text: str) -> None:
    with pytest.raises(InvalidValue):
        iso_to_datetime(text)


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ("000", date(1899, 12, 31)),
        ("001", date(1900, 1, 1)),
        ("059", date(1900, 2, 28)),
        ("061", date(1900, 3, 1)),
        ("061.75", date(1900, 3, 1)),
        ("45292.", date(2024, 1, 1)),
        ("0045292", date(2024, 1, 1)),
        ("2958465", date(9999, 12, 31)),
        ("12/31/9999", date(9999, 12, 31)),
    ],
)
def test_reads_days_of_spreadsheets(text: str, day: date) -> None:
    assert text_to_date(text) == day


@pytest.mark.parametrize("text", ["1", "59", "060.5", "2958466", "9" * 50_000, ".50", "-45292", "٤٥٢٩٢", "02/30/2024"])
def test_rejects_other_days(text: str) -> None:
    with pytest.raises(InvalidValue):
        text_to_date(text)


@pytest.mark.parametrize("text", ["10:20:30Z", "10:20:30.000000000", "10:20:30.0000000009Z", "10:20:30"])
def test_reads_times_as_files_write_them(text: str) -> None:
    assert text_to_time(text) == Time.parse("10:20:30")


@pytest.mark.parametrize(
    "text",
    [
        "7F3A1C52-9F3D-4C1B-8D2E-0A1B2C3D4E5F",
        "7f3a1c529f3d4c1b8d2e0a1b2c3d4e5f",
        "{7f3a1c52-9f3d-4c1b-8d2e-0a1b2c3d4e5f}",
        "{7f3a1c529f3d4c1b8d2e0a1b2c3d4e5f}",
        "urn:uuid:7f3a1c52-9f3d-4c1b-8d2e-0a1b2c3d4e5f",
    ],
)
def test_reads_uuids_as_programs_write_them(text: str) -> None:
    assert text_to_uuid(text) == "7f3a1c52-9f3d-4c1b-8d2e-0a1b2c3d4e5f"
