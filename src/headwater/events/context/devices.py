"""`context.device` of the events that are about a device, which some SDKs describe in the properties."""

from msgspec import Raw

from headwater.events.devices import DEVICE_EVENTS
from headwater.events.raw import ABSENT, is_absent, is_object, members


def device_of(event: str | None, device: Raw, properties: Raw) -> Raw:
    """`device` as the context has it, or `properties.device` where only that is there."""
    if event not in DEVICE_EVENTS or not is_absent(device):
        return device
    described = members(properties).get("device", ABSENT)
    return described if is_object(described) else device
