"""How events become devices: a device is one of its source connection, by its id, and so is its token.

The rules: the latest registration counts, and what it does not say stays as it was. A device that comes again for
another user moves to that user, whether it is known by its id or by its token: apps that make a new id at every start
leave one device behind, not many. A removal in the name of another user is of the past, and changes nothing.
"""

from collections.abc import Iterable, Iterator

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from headwater.events.devices import DeviceChange

DeviceKey = tuple[int, str]
"""The connection of a device, and its id there."""


class DeviceEvent(Struct, frozen=True):
    """What an event of a source connection says of a device."""

    workspace: int
    connection: int
    user_id: str | None
    anonymous_id: str | None
    """At least one of the two ids is there."""
    at: int
    """When, in microseconds since the epoch."""
    change: DeviceChange

    @property
    def key(self) -> DeviceKey:
        """The key of the device."""
        return self.connection, self.change.device_id

    @property
    def token(self) -> tuple[int, str | None]:
        """The token that the event gives the device, in its connection."""
        token = self.change.token
        return self.connection, token if isinstance(token, str) else None


class Device(Struct, frozen=True):
    """A device as it is known; a text that was never said is empty where it may not be None."""

    workspace: int
    connection: int
    device_id: str
    user_id: str | None
    anonymous_id: str | None
    token: str | None
    os: str
    os_version: str | None
    model: str
    app_build: str
    app_version: str
    updated_at: int
    """When it was last registered, in microseconds since the epoch."""

    @property
    def key(self) -> DeviceKey:
        """What makes a device the same device."""
        return self.connection, self.device_id


class Devices:
    """Some devices, found by their key or their token."""

    def __init__(self, devices: Iterable[Device]) -> None:
        self._devices = {device.key: device for device in devices}
        self._keys: dict[tuple[int, str | None], DeviceKey] = {
            (device.connection, device.token): key for key, device in self._devices.items() if device.token is not None
        }

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def apply(self, events: Iterable[DeviceEvent]) -> None:
        """Bring the devices up to date with the events, in their order.

        All devices that the events name by id or token must be there.
        """
        for event in events:
            if event.change.kind == "removed":
                self._remove(event)
            else:
                own, former = self._take(event.key), self._take(self._keys.get(event.token))
                self._put(_registered(own or former, event))

    def _remove(self, event: DeviceEvent) -> None:
        key = event.key if event.key in self._devices else self._keys.get(event.token)
        if key is not None and not _is_anothers(self._devices[key], event):
            self._take(key)

    def _take(self, key: DeviceKey | None) -> Device | None:
        device = None if key is None else self._devices.pop(key, None)
        if device is not None:
            self._keys.pop((device.connection, device.token), None)
        return device

    def _put(self, device: Device) -> None:
        self._devices[device.key] = device
        if device.token is not None:
            self._keys[device.connection, device.token] = device.key


def _registered(device: Device | None, event: DeviceEvent) -> Device:
    said = event.change
    if device is None:
        device = Device(
            event.workspace, event.connection, said.device_id, None, None, None, "", None, "", "", "", event.at
        )
    user_id, anonymous_id = _person(device, event)
    return replace(
        device,
        device_id=said.device_id,
        user_id=user_id,
        anonymous_id=anonymous_id,
        token=_said(said.token, device.token),
        os=_said(said.os, device.os) or "",
        os_version=_said(said.os_version, device.os_version),
        model=_said(said.model, device.model) or "",
        app_build=_said(said.app_build, device.app_build) or "",
        app_version=_said(said.app_version, device.app_version) or "",
        updated_at=max(device.updated_at, event.at),
    )


def _said(value: str | UnsetType | None, known: str | None) -> str | None:
    return known if value is UNSET else value


def _person(device: Device, event: DeviceEvent) -> tuple[str | None, str | None]:
    """Whose the device is now. The id that the event does not say stays if it is that of the same person."""
    if event.user_id is None:
        return device.user_id if device.anonymous_id == event.anonymous_id else None, event.anonymous_id
    is_the_same = device.user_id in (None, event.user_id)
    return event.user_id, event.anonymous_id or (device.anonymous_id if is_the_same else None)


def _is_anothers(device: Device, event: DeviceEvent) -> bool:
    return None not in (device.user_id, event.user_id) and device.user_id != event.user_id
