"""The device that an event describes in its properties."""

import pytest
from msgspec import Raw

from headwater.events.context.devices import described_device

PROPERTIES = Raw(b'{"device":{"token":"p"}}')


@pytest.mark.parametrize(
    ("event", "properties", "expected"),
    [
        ("Device Created or Updated", PROPERTIES, b'{"token":"p"}'),
        ("Device Deleted", PROPERTIES, b'{"token":"p"}'),
        ("Device Deleted", Raw(), b""),
        ("Device Deleted", Raw(b'{"device":"x"}'), b""),
        ("Order Completed", PROPERTIES, b""),
        (None, PROPERTIES, b""),
    ],
)
def test_device(event: str | None, properties: Raw, expected: bytes) -> None:
    assert bytes(described_device(event, properties)) == expected
