"""The devices in the warehouse's database: changed by one batch of the log, and listed for people."""

from collections.abc import Sequence
from typing import Final

import msgspec
from sqlalchemy import ColumnElement, and_, delete, false, func, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.state import bulk, tables
from headwater.state.devices import Device, DeviceEvent, Devices

MAX_ANONYMOUS_IDS: Final = 200
"""Of how many of a user's anonymous ids, in each connection and the latest ones, the devices are listed too."""

_COLUMNS: Final = [column for column in tables.devices.c if column.name != "id"]
_KEY: Final = ("connection", "device_id")
_IDS_PER_QUERY: Final = 200


async def change(connection: AsyncConnection, events: Sequence[DeviceEvent]) -> None:
    """Bring the devices up to date with the events, in their order."""
    if not events:
        return
    table = tables.devices.c
    before: dict[int, Device] = {}
    tokens = {event.token for event in events if event.token[1] is not None}
    for columns, keys in (
        ((table.connection, table.device_id), {event.key for event in events}),
        ((table.connection, table.token), tokens),
    ):
        for some in bulk.among(connection, columns, sorted(keys)):
            for row in await connection.execute(select(table.id, *_COLUMNS).where(some)):
                before[row.id] = Device(*row[1:])
    devices = Devices(before.values())
    devices.apply(events)
    kept = {device.key for device in devices}
    gone = [id_ for id_, device in before.items() if device.key not in kept]
    for ids in bulk.chunks(gone, _IDS_PER_QUERY):
        await connection.execute(delete(tables.devices).where(table.id.in_(ids)))
    rows = [msgspec.structs.astuple(device) for device in devices]
    await bulk.upsert(connection, _COLUMNS, rows, key=_KEY)


async def page(
    connection: AsyncConnection,
    connections: Sequence[int],
    *,
    user_id: str | None,
    anonymous_id: str | None,
    first: int,
    limit: int,
) -> tuple[list[Device], int]:
    """Devices of these connections, the most recently changed first, and how many there are in all.

    Those of a user are also the ones that were registered under an anonymous id that is known to be the user's.
    """
    table = tables.devices.c
    if any(text is not None and "\0" in text for text in (user_id, anonymous_id)):
        return [], 0  # PostgreSQL has no NUL in texts, and would call it an error
    chosen: list[ColumnElement[bool]] = [table.connection.in_(connections)]
    if anonymous_id is not None:
        chosen.append(table.anonymous_id == anonymous_id)
    if user_id is not None:
        theirs = await _anonymous_ids(connection, connections, user_id)
        before_login = tuple_(table.connection, table.anonymous_id).in_(theirs) if theirs else false()
        chosen.append(or_(table.user_id == user_id, and_(table.user_id.is_(None), before_login)))
    query = select(*_COLUMNS).where(*chosen).order_by(table.updated_at.desc(), table.id.desc())
    rows = (await connection.execute(query.offset(first).limit(limit))).all()
    total = (await connection.execute(select(func.count()).select_from(tables.devices).where(*chosen))).scalar_one()
    return [Device(*row) for row in rows], total


async def _anonymous_ids(
    connection: AsyncConnection, connections: Sequence[int], user_id: str
) -> list[tuple[int, str]]:
    table = tables.identities.c
    query = select(table.connection, table.anonymous_ids).where(
        table.connection.in_(connections), table.identity_id == user_id, ~table.is_anonymous
    )
    found: dict[tuple[int, str], None] = {}
    for source, text in (await connection.execute(query)).all():
        ids = msgspec.json.decode(text, type=list[str])[-MAX_ANONYMOUS_IDS:]
        found.update(dict.fromkeys((source, id_) for id_ in ids))
    return list(found)
