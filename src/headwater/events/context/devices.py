"""`context.device` of the events that are about a device, which some SDKs describe in the properties."""

from typing import Final

from msgspec import Raw

from headwater.events.raw import ABSENT, is_absent, is_object, members

_ABOUT_DEVICES: Final = frozenset(("Device Created or Updated", "Device Deleted"))


def device_of(event: str | None, device: Raw, properties: Raw) -> Raw:
    """`device` as the context has it, or `properties.device` where only that is there."""
    if event not in _ABOUT_DEVICES or not is_absent(device):
        return device
    described = members(properties).get("device", ABSENT)
    return described if is_object(described) else device
