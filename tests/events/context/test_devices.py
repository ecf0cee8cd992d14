"""The device of the events that are about one."""

import pytest
from msgspec import Raw

from headwater.events.context.devices import device_of

DEVICE = Raw(b'{"token":"t"}')
PROPERTIES = Raw(b'{"device":{"token":"p"}}')
CREATED = "Device Created or Updated"


@pytest.mark.parametrize(
    ("event", "device", "properties", "expected"),
    [
        (CREATED, Raw(), PROPERTIES, b'{"token":"p"}'),
        ("Device Deleted", Raw(b"null"), PROPERTIES, b'{"token":"p"}'),
        (CREATED, DEVICE, PROPERTIES, b'{"token":"t"}'),
        (CREATED, Raw(), Raw(), b""),
        (CREATED, Raw(), Raw(b'{"device":"x"}'), b""),
        ("Order Completed", Raw(), PROPERTIES, b""),
        (None, Raw(), PROPERTIES, b""),
    ],
)
def test_device(event: str | None, device: Raw, properties: Raw, expected: bytes) -> None:
    assert bytes(device_of(event, device, properties)) == expected
