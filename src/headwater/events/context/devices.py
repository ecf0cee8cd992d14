"""The device of the events that are about one, which some SDKs describe in the properties and not in the context."""

from msgspec import Raw

from headwater.events.devices import DEVICE_EVENTS
from headwater.events.raw import ABSENT, is_object, members


def described_device(event: str | None, properties: Raw) -> Raw:
    """`properties.device` of an event that is about a device; otherwise ABSENT."""
    if event not in DEVICE_EVENTS:
        return ABSENT
    described = members(properties).get("device", ABSENT)
    return described if is_object(described) else ABSENT
