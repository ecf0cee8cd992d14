"""Reads objects of the catalog from its tables: some, or all.

Each function runs inside one transaction that sees one state of the database. Changed objects are read one by one, so
following the changes of other processes costs in proportion to the changes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
import sqlalchemy
from sqlalchemy import Column, Row, Select, Table, or_, select

from headwater.catalog import tables
from headwater.catalog.model import ApiKey, Connection, OAuthAccount, Pipeline, Workspace
from headwater.catalog.view import Delta, Kind

KEPT_CHANGES: Final = 1000
"""Versions whose changes are kept. A view that is further behind is loaded completely."""

MAX_IDS: Final = 5_000
"""Above this many changed objects, everything is read: a statement has at most 32,766 parameters in both databases, and
each id takes up to two."""

_VERSION = select(tables.catalog_version.c.version)
_CHANGES = select(tables.catalog_changes.c.kind, tables.catalog_changes.c.id)
_ACCOUNTS = select(
    tables.connection_accounts.c.connection,
    tables.oauth_accounts.c.id,
    tables.oauth_accounts.c.code,
    tables.oauth_accounts.c.authorized_at,
).join(tables.oauth_accounts, tables.oauth_accounts.c.id == tables.connection_accounts.c.account)


def read_version(connection: sqlalchemy.Connection) -> int:
    """Return the version of the state that this transaction sees. It grows with every change."""
    return int(connection.execute(_VERSION).scalar_one())


def read_since(connection: sqlalchemy.Connection, since: int, version: int) -> Delta:
    """Return the changes after the version `since` up to `version`, the newest that this transaction sees."""
    if since < 0 or version - since > KEPT_CHANGES:
        return _read(connection, version, None)
    ids: defaultdict[Kind, set[int]] = defaultdict(set)
    for row in connection.execute(_CHANGES.where(tables.catalog_changes.c.version > since)):
        ids[row.kind].add(row.id)
    return _read(connection, version, ids if all(len(some) <= MAX_IDS for some in ids.values()) else None)


def _read(connection: sqlalchemy.Connection, version: int, ids: Mapping[Kind, set[int]] | None) -> Delta:
    """Return the objects with these ids, removed ones as None; all objects if `ids` is None."""

    def wanted(kind: Kind) -> set[int] | None:
        return None if ids is None else ids.get(kind, set())

    return Delta(
        version=version,
        complete=ids is None,
        workspaces=_plain(connection, tables.workspaces, Workspace, wanted("workspace")),
        api_keys=_plain(connection, tables.api_keys, ApiKey, wanted("api_key")),
        connections=_connections(connection, wanted("connection")),
    )


def _plain(connection: sqlalchemy.Connection, table: Table, type_: type[Any], ids: set[int] | None) -> dict[int, Any]:
    """Return objects whose fields are the columns of one table."""
    found: dict[int, Any] = dict.fromkeys(ids or ())
    for row in _rows(connection, select(table), [table.c.id], ids):
        found[row.id] = type_(**row._mapping)
    return found


def _connections(connection: sqlalchemy.Connection, ids: set[int] | None) -> dict[int, Connection | None]:
    found = _plain(connection, tables.connections, Connection, ids)
    links, keys, pipelines = tables.connection_links, tables.event_write_keys, tables.pipelines

    linked: defaultdict[int, list[int]] = defaultdict(list)
    for row in _rows(connection, select(links), [links.c.source, links.c.destination], ids):
        linked[row.source].append(row.destination)
        linked[row.destination].append(row.source)
    write_keys: defaultdict[int, list[str]] = defaultdict(list)
    for row in _rows(connection, select(keys).order_by(keys.c.sequence), [keys.c.connection], ids):
        write_keys[row.connection].append(row.key)
    owned: defaultdict[int, list[Pipeline]] = defaultdict(list)
    for row in _rows(connection, select(pipelines).order_by(pipelines.c.id), [pipelines.c.connection], ids):
        owned[row.connection].append(Pipeline(**row._mapping))
    accounts = {
        row.connection: OAuthAccount(id=row.id, code=row.code, authorized_at=row.authorized_at)
        for row in _rows(connection, _ACCOUNTS, [tables.connection_accounts.c.connection], ids)
    }

    for id_, value in found.items():
        if value is not None:
            found[id_] = msgspec.structs.replace(
                value,
                linked_connections=tuple(sorted(linked[id_])),
                pipelines=tuple(owned[id_]),
                event_write_keys=tuple(write_keys[id_]),
                oauth_account=accounts.get(id_),
            )
    return found


def _rows(
    connection: sqlalchemy.Connection, query: Select[Any], columns: list[Column[Any]], ids: set[int] | None
) -> Iterable[Row[Any]]:
    """Return the rows with one of `ids` in one of `columns`; all rows if `ids` is None."""
    if ids is not None:
        if not ids:
            return ()
        query = query.where(or_(*(column.in_(ids) for column in columns)))
    rows: Sequence[Row[Any]] = connection.execute(query).all()
    return rows
