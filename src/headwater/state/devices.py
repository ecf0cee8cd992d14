"""Devices: their changes by events, and the list of them.

A device belongs to its source connection, and so does its token. The latest registration counts, and attributes that it
does not contain keep their values. A device that registers for another user moves to that user, whether it is
recognised by its id or by its token: apps that generate an id at every start leave one device, not many. A removal
under another user's id is outdated, and changes nothing.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, func, or_, select, tuple_

from headwater.events.devices import DeviceChange
from headwater.state import bulk, tables

MAX_ANONYMOUS_IDS: Final = 200
"""Maximum number of a user's latest anonymous ids, in each connection, whose devices are listed too."""

_COLUMNS: Final = [column for column in tables.devices.c if column.name != "id"]
_KEY: Final = ("connection", "device_id")

DeviceKey = tuple[int, str]
"""The connection of a device, and its id there."""


class DeviceEvent(Struct, frozen=True):
    """A change of a device by an event of a source connection."""

    workspace: int
    connection: int
    user_id: str | None
    anonymous_id: str | None
    """The anonymous id. At least one of the two ids is present."""
    at: int
    """Time of the change, in microseconds since the epoch."""
    change: DeviceChange

    @property
    def key(self) -> DeviceKey:
        """The key of the device."""
        return self.connection, self.change.device_id

    @property
    def token(self) -> tuple[int, str | None]:
        """The token that the event assigns to the device, with its connection."""
        token = self.change.token
        return self.connection, token if isinstance(token, str) else None


class Device(Struct, frozen=True):
    """A device. Required texts that no registration contained are empty."""

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
    """Time of the latest registration, in microseconds since the epoch."""

    @property
    def key(self) -> DeviceKey:
        """The key of the device."""
        return self.connection, self.device_id


class DeviceCursor(Struct, frozen=True, array_like=True):
    """A place in a list of devices: after this time, in microseconds since the epoch, connection and device id."""

    updated_at: int
    connection: int
    device_id: str


class Devices:
    """A set of devices, found by their key or their token."""

    def __init__(self, devices: Iterable[Device]) -> None:
        self._devices = {device.key: device for device in devices}
        self._keys: dict[tuple[int, str | None], DeviceKey] = {
            (device.connection, device.token): key for key, device in self._devices.items() if device.token is not None
        }

    def __iter__(self) -> Iterator[Device]:
        return iter(self._devices.values())

    def apply(self, events: Iterable[DeviceEvent]) -> None:
        """Apply the events to the devices, in their order.

        The set must contain all devices that the events name by id or token.
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
    """Return the user id and the anonymous id of a device after an event.

    An id that the event does not contain is kept if both belong to the same person.
    """
    if event.user_id is None:
        return device.user_id if device.anonymous_id == event.anonymous_id else None, event.anonymous_id
    is_the_same = device.user_id in (None, event.user_id)
    return event.user_id, event.anonymous_id or (device.anonymous_id if is_the_same else None)


def _is_anothers(device: Device, event: DeviceEvent) -> bool:
    return None not in (device.user_id, event.user_id) and device.user_id != event.user_id


def change(connection: Connection, events: Sequence[DeviceEvent]) -> None:
    """Apply the events to the stored devices, in their order."""
    table = tables.devices.c
    before: dict[int, Device] = {}
    tokens = {event.token for event in events if event.token[1] is not None}
    for columns, keys in (
        ((table.connection, table.device_id), {event.key for event in events}),
        ((table.connection, table.token), tokens),
    ):
        for id_, *values in bulk.lookup(connection, (table.id, *_COLUMNS), columns, sorted(keys)):
            before[id_] = Device(*values)
    devices = Devices(before.values())
    devices.apply(events)
    kept = {device.key for device in devices}
    removed = [id_ for id_, device in before.items() if device.key not in kept]
    bulk.remove(connection, (table.id,), ((id_,) for id_ in removed))
    rows = [msgspec.structs.astuple(device) for device in devices]
    bulk.upsert(connection, _COLUMNS, rows, key=_KEY)


def page(
    connection: Connection,
    connections: Sequence[int],
    *,
    user_id: str | None,
    anonymous_id: str | None,
    first: int,
    limit: int,
    after: DeviceCursor | None = None,
) -> tuple[list[Device], int]:
    """Return the devices of these connections, the most recently changed first, and their total number.

    The devices of a user include those that were registered under one of the user's anonymous ids.
    """
    table = tables.devices.c
    if any(text is not None and "\0" in text for text in (user_id, anonymous_id)):
        return [], 0  # PostgreSQL texts cannot contain NUL
    chosen: list[ColumnElement[bool]] = [table.connection.in_(connections)]
    if anonymous_id is not None:
        chosen.append(table.anonymous_id == anonymous_id)
    if user_id is not None:
        before_login = _before_login(connection, _anonymous_ids(connection, connections, user_id))
        # Two searches find the ids, because an OR over different columns could not use an index.
        theirs = select(table.id).where(table.connection.in_(connections), table.user_id == user_id)
        chosen.append(table.id.in_(theirs.union_all(select(table.id).where(table.id.in_(before_login)))))
    total = connection.execute(select(func.count()).select_from(tables.devices).where(*chosen)).scalar_one()
    key = (table.connection, table.device_id)
    if after is not None:
        time = after.updated_at
        later = tuple_(*key) > tuple_(after.connection, after.device_id)
        chosen += (table.updated_at <= time, or_(table.updated_at < time, later))
    query = select(*_COLUMNS).where(*chosen).order_by(table.updated_at.desc(), *key)
    rows = connection.execute(query.offset(first).limit(limit)).all()
    return [Device(*row) for row in rows], total


def _anonymous_ids(connection: Connection, connections: Sequence[int], user_id: str) -> list[tuple[int, str]]:
    table = tables.identities.c
    query = select(table.connection, table.anonymous_ids).where(
        table.connection.in_(connections), table.identity_id == user_id, ~table.is_anonymous
    )
    found: dict[tuple[int, str], None] = {}
    for source, text in connection.execute(query).all():
        ids = msgspec.json.decode(text, type=list[str])[-MAX_ANONYMOUS_IDS:]
        found.update(dict.fromkeys((source, id_) for id_ in ids))
    return list(found)


def _before_login(connection: Connection, anonymous_ids: Sequence[tuple[int, str]]) -> list[int]:
    """Return the ids of the devices that were registered under these anonymous ids and have no user."""
    table = tables.devices.c
    found = bulk.lookup(connection, (table.id, table.user_id), (table.connection, table.anonymous_id), anonymous_ids)
    return [id_ for id_, user_id in found if user_id is None]
