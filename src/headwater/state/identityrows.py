"""Reads the identities that observations affect, and writes their changes.

An identity's id grows with its age and is not used again, also after the identity is deleted: profiles, and links that
wait for a resolution, name identities by their ids.
"""

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, select

from headwater.state import bulk, tables
from headwater.state.identities import (
    Identities,
    IdentityChanges,
    IdentityKey,
    IdentityObservation,
    IdentityState,
    StoredIdentity,
    affected_ids,
    affected_keys,
    merge,
    needs_write,
)
from headwater.state.profiles.model import ChangedIdentity, IdentityName
from headwater.storage.statements import begin_writing, fetch

_KEY_NAMES: Final = ("connection", "identity_id", "is_anonymous", "pipeline")
_KEY: Final = [tables.identities.c[name] for name in _KEY_NAMES]
_COLUMNS: Final = [column for column in tables.identities.c if column.name != "run"]
_NEW_COLUMNS: Final = [column for column in _COLUMNS if column.name != "id"]
_NAMED_COLUMNS: Final = [
    tables.identities.c[name] for name in ("id", "workspace", "connection", "identity_id", "pipeline", "is_anonymous")
]
_REMOVED_COLUMNS: Final = [tables.identities.c[name] for name in ("id", "workspace", *_KEY_NAMES, "updated_at")]
_ID_OWNER: Final = "identity ids"
"""The owner of the checkpoint with the last id of an identity on SQLite, which would use the highest id again."""
_READ_LAST_ID: Final = f"SELECT value FROM checkpoints WHERE owner = '{_ID_OWNER}'"


def find_changes(connection: Connection, observations: Sequence[IdentityObservation]) -> IdentityChanges:
    """Return the identity changes of the observations, in their order. Nothing is written."""
    keys = affected_keys(observations)
    rows = bulk.lookup(connection, _COLUMNS, _KEY, map(_values, keys))
    rows += bulk.lookup(
        connection,
        _COLUMNS,
        [tables.identities.c.connection, tables.identities.c.identity_id],
        affected_ids(observations),
    )
    return _changes(observations, keys, rows)


def write_changes(connection: Connection, changes: IdentityChanges) -> list[ChangedIdentity]:
    """Write the changes that `find_changes` returned. Return the rows that differ afterwards, deleted ones first."""
    removed = bulk.take(connection, _REMOVED_COLUMNS, _KEY, map(_values, changes.removed))
    written: list[ChangedIdentity] = []
    kept: list[tuple[IdentityKey, IdentityState]] = []
    new: list[tuple[IdentityKey, IdentityState]] = []
    for item in changes.changed.items():
        key, state = item
        stored = changes.stored.get(key)
        if stored is None or key in changes.removed:
            new.append(item)
        else:
            kept.append(item)
            written.append(_changed(stored.id, key, state, attributes_changed=stored.attributes != state.attributes))
    bulk.upsert(connection, _NEW_COLUMNS, [_row(*item) for item in kept], key=_KEY_NAMES)
    ids = _insert(connection, new)
    written += [
        _changed(id_, key, state, is_new=True, attributes_changed=True)
        for id_, (key, state) in zip(ids, new, strict=True)
    ]
    return [*_deleted(connection, changes, removed), *written] if removed else written


def _deleted(connection: Connection, changes: IdentityChanges, removed: Sequence[Any]) -> list[ChangedIdentity]:
    """Return the deleted rows as changes, after the others were written.

    The successor is the user's identity in the same pipeline, or else the oldest in another one of the connection.
    """
    targets = [changes.removed[IdentityKey(row[2], row[3], bool(row[4]), row[5])] for row in removed]
    names = {(target.connection, target.identity_id) for target in targets if target is not None}
    found: dict[tuple[int, int, str], dict[int, int]] = {}
    """The ids by pipeline, the oldest first, of each user."""
    rows = bulk.lookup(connection, _NAMED_COLUMNS, _KEY[:2], names)
    for id_, workspace, source, identity_id, pipeline, is_anonymous in sorted(rows, key=lambda row: int(row[0])):
        if not is_anonymous:
            found.setdefault((workspace, source, identity_id), {})[pipeline] = id_
    deleted: list[ChangedIdentity] = []
    for row, target in zip(removed, targets, strict=True):
        successor = 0
        if target is not None:
            ids = found.get((row[1], target.connection, target.identity_id), {})
            successor = ids.get(target.pipeline) or next(iter(ids.values()), 0)
        deleted.append(ChangedIdentity(row[0], row[1], _name(row), row[5], None, row[6], False, True, successor))
    return deleted


def _changes(
    observations: Sequence[IdentityObservation], keys: Iterable[IdentityKey], rows: Iterable[Any]
) -> IdentityChanges:
    found: dict[IdentityKey, IdentityState] = {}
    ids: dict[IdentityKey, int] = {}
    for id_, workspace, source, identity_id, is_anonymous, pipeline, anonymous_ids, updated_at, attributes in rows:
        key = IdentityKey(source, identity_id, bool(is_anonymous), pipeline)
        ids[key] = id_
        found[key] = IdentityState(workspace, _decode_ids(anonymous_ids), updated_at, attributes)
    known: Identities = dict.fromkeys(keys)
    known |= {key: copy(state) for key, state in found.items()}
    removed = merge(observations, known)
    changed = {
        key: state
        for key, state in known.items()
        if state is not None and (key in removed or needs_write(found.get(key), state))
    }
    stored = {key: StoredIdentity(ids[key], found[key].attributes) for key in changed if key in found}
    return IdentityChanges(removed, changed, stored)


def _insert(connection: Connection, new: Sequence[tuple[IdentityKey, IdentityState]]) -> list[int]:
    """Insert new identities, and return their ids, which ascend in their order."""
    if not new:
        return []
    rows = [_row(*item) for item in new]
    if connection.dialect.name == "sqlite":
        ids = next_ids(connection, len(rows))
        numbered = [(id_, *row) for id_, row in zip(ids, rows, strict=True)]
        bulk.upsert(connection, _COLUMNS, numbered, key=_KEY_NAMES, keeping=("id",))
        return ids
    returned = [tables.identities.c.id, *_KEY]
    found = bulk.upsert_and_fetch(connection, _NEW_COLUMNS, rows, key=_KEY_NAMES, returning=returned)
    by_key = {tuple(key): id_ for id_, *key in found}
    return [by_key[_values(key)] for key, _ in new]


def next_ids(connection: Connection, count: int) -> list[int]:
    """Return ids that no identity had, in ascending order. Only SQLite needs them.

    The transaction writes from here on, because imports take ids in other processes.
    """
    begin_writing(connection)
    table = tables.checkpoints.c
    stored = fetch(connection, _READ_LAST_ID)
    last = int.from_bytes(stored[0][0]) if stored else _highest_id(connection)
    bulk.upsert(connection, list(table), [(_ID_OWNER, (last + count).to_bytes(8))], key=("owner",))
    return list(range(last + 1, last + count + 1))


def _highest_id(connection: Connection) -> int:
    return connection.scalar(select(func.max(tables.identities.c.id))) or 0


def _changed(
    id_: int, key: IdentityKey, state: IdentityState, *, is_new: bool = False, attributes_changed: bool
) -> ChangedIdentity:
    name = IdentityName(key.connection, key.identity_id, key.is_anonymous)
    return ChangedIdentity(
        id_, state.workspace, name, key.pipeline, state.attributes, state.updated_at, is_new, attributes_changed
    )


def _name(row: Any) -> IdentityName:
    return IdentityName(row[2], row[3], bool(row[4]))


def _row(key: IdentityKey, state: IdentityState) -> tuple[Any, ...]:
    return (
        state.workspace,
        *_values(key),
        msgspec.json.encode(state.anonymous_ids).decode(),
        state.updated_at,
        state.attributes,
    )


def _values(key: IdentityKey) -> tuple[int, str, bool, int]:
    return key.connection, key.identity_id, key.is_anonymous, key.pipeline


_decode_ids: Final = msgspec.json.Decoder(list[str]).decode
