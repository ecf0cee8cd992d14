"""Identities of imports: written in bulk, deleted after a run that did not see them, and passed on for resolution.

Imports run in processes of their own, next to the worker. They write no profiles: the identities that a run has changed
wait in `import_changes`, and are stored as unresolved when the run ends, or all identities of the workspace are
resolved if the run has changed many.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, delete, select

from headwater.state import bulk, tables
from headwater.state.identityrows import next_ids
from headwater.state.profiles.rows import ProfileRows
from headwater.state.suppressions import FOREVER, PersonName, Suppressions
from headwater.storage.statements import fetch, run, run_each

MAX_TRACKED: Final = 50_000
"""Maximum number of changed identities of a run that are resolved one by one. With more, all identities of the
workspace are resolved, which is faster from about this number on."""
SLICE_ROWS: Final = 2_000
"""Maximum number of identities that one transaction deletes or passes on: some 20 ms."""

_KEY_NAMES: Final = ("connection", "identity_id", "is_anonymous", "pipeline")
_COLUMNS: Final = [column for column in tables.identities.c if column.name != "id"]
_COLUMNS_WITH_ID: Final = [tables.identities.c.id, *_COLUMNS]

Imported = tuple[int | None, str]
"""The update time in microseconds since the epoch, None if the source does not state it; and the attributes as JSON."""


class ImportTarget(Struct, frozen=True):
    """The owner of imported identities."""

    workspace: int
    connection: int
    pipeline: int
    run: int
    is_full: bool
    """Whether the run reads all users, so that those it does not see are deleted at its end."""
    skips_repeats: bool
    """Whether a user that the run has seen before is left out, instead of being written again."""


class Written(Struct, frozen=True):
    """The outcome of a batch."""

    changed: int
    """Number of identities that are new, or differ from before."""
    suppressed: frozenset[str]
    """The ids of erased persons, which were not written."""


def write(
    connection: Connection,
    target: ImportTarget,
    users: Mapping[str, Imported],
    kept: Collection[str],
    suppressions: Suppressions,
    *,
    now: int,
    is_tracked: bool,
) -> Written:
    """Write the identities of users, by id. Those of `kept` are seen without a change: their records have failed.

    The changed identities are remembered if `is_tracked`. The transaction must have written before.
    """
    suppressed = _find_suppressed(connection, target, users, suppressions)
    if suppressed:
        users = {id_: user for id_, user in users.items() if id_ not in suppressed}
    stored = _find(connection, target, [*users, *(id_ for id_ in kept if id_ not in users)])
    new: list[tuple[Any, ...]] = []
    changed: list[tuple[Any, ...]] = []
    seen: list[int] = []
    workspace, source, pipeline, run_id = target.workspace, target.connection, target.pipeline, target.run
    for id_, (updated_at, attributes) in users.items():
        row = stored.get(id_)
        if row is None:
            at = now if updated_at is None else updated_at
            new.append((workspace, source, id_, False, pipeline, "[]", at, attributes, run_id))
            continue
        key, before_at, before, before_run = row
        if before_run == run_id and target.skips_repeats:
            continue
        if attributes == before and (updated_at is None or updated_at == before_at):
            if before_run != run_id:
                seen.append(key)
        else:
            changed.append((now if updated_at is None else updated_at, attributes, run_id, key))
    seen += [stored[id_][0] for id_ in kept if id_ not in users and id_ in stored]
    if target.is_full:
        _touch(connection, seen, run_id)
    _update(connection, changed)
    ids = _insert(connection, target, new, with_ids=is_tracked)
    if is_tracked:
        rows = [(pipeline, id_) for id_ in ids] + [(pipeline, row[3]) for row in changed]
        bulk.upsert(connection, list(tables.import_changes.c), rows, key=("pipeline", "identity"))
    return Written(len(new) + len(changed), suppressed)


def _find_suppressed(
    connection: Connection, target: ImportTarget, users: Collection[str], suppressions: Suppressions
) -> frozenset[str]:
    """Return the ids of erased persons, and count them. Records have no position in the log: a person that is erased,
    but not suppressed, is imported again once the erasure has ended."""
    suppressions.refresh(connection)
    if not suppressions:
        return frozenset()
    found = [
        id_
        for id_ in suppressions.select(users)
        if suppressions.has(target.workspace, target.connection, FOREVER, id_, is_anonymous=False)
    ]
    if found:
        names = [PersonName(target.connection, id_, False) for id_ in found]
        suppressions.count(connection, target.workspace, names)
    return frozenset(found)


def _find(connection: Connection, target: ImportTarget, ids: list[str]) -> dict[str, tuple[int, int, str, int]]:
    """Return the id, update time, attributes and run of the identities that exist, by user id.

    The join has one search of the index per id, whatever the statistics of the database are.
    """
    if not ids:
        return {}
    columns = "t.identity_id, t.id, t.updated_at, t.attributes, t.run"
    same = (
        f"t.connection = {int(target.connection)} AND t.identity_id = w.value AND t.pipeline = {int(target.pipeline)}"
    )
    if connection.dialect.name == "sqlite":
        text = f"SELECT {columns} FROM json_each(?) w CROSS JOIN identities t ON {same} AND t.is_anonymous = 0"
        rows = fetch(connection, text, (_encode(ids).decode(),))
    else:
        text = (
            "SELECT t.* FROM unnest($1::varchar[]) AS w(value) CROSS JOIN LATERAL "
            f"(SELECT {columns} FROM identities t WHERE {same} AND NOT t.is_anonymous OFFSET 0) t"
        )
        rows = fetch(connection, text, (ids,))
    return {identity_id: (id_, at, attributes, run_id) for identity_id, id_, at, attributes, run_id in rows}


def _touch(connection: Connection, ids: list[int], run_id: int) -> None:
    if not ids:
        return
    if connection.dialect.name == "sqlite":
        text = "UPDATE identities SET run = ? WHERE id IN (SELECT value FROM json_each(?))"
        run(connection, text, (run_id, _encode(ids).decode()))
    else:
        run(connection, "UPDATE identities SET run = $1 WHERE id = ANY ($2::bigint[])", (run_id, ids))


def _update(connection: Connection, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    if connection.dialect.name == "sqlite":
        run_each(connection, "UPDATE identities SET updated_at = ?, attributes = ?, run = ? WHERE id = ?", rows)
        return
    text = (
        "UPDATE identities t SET updated_at = w.at, attributes = w.attributes, run = w.run "
        "FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[]) AS w(at, attributes, run, id) "
        "WHERE t.id = w.id"
    )
    run(connection, text, tuple(map(list, zip(*rows, strict=True))))


def _insert(connection: Connection, target: ImportTarget, rows: list[tuple[Any, ...]], *, with_ids: bool) -> list[int]:
    """Insert new identities; return their ids if `with_ids`."""
    if not rows:
        return []
    if connection.dialect.name == "sqlite":
        ids = next_ids(connection, len(rows))
        bulk.insert(connection, _COLUMNS_WITH_ID, [(id_, *row) for id_, row in zip(ids, rows, strict=True)])
        return ids
    bulk.insert(connection, _COLUMNS, rows)
    return [row[0] for row in _find(connection, target, [row[2] for row in rows]).values()] if with_ids else []


# --- The end of a run ---------------------------------------------------------------------------------------------


def find_unseen(connection: Connection, pipeline: int, run_id: int, *, after: int) -> list[int]:
    """Return the ids of at most SLICE_ROWS identities of a pipeline that a run has not seen, above `after`."""
    table = tables.identities.c
    query = (
        select(table.id)
        .where(table.pipeline == pipeline, table.id > after, table.run != run_id)
        .order_by(table.id)
        .limit(SLICE_ROWS)
    )
    return list(connection.scalars(query))


def remove(connection: Connection, target: ImportTarget, ids: Collection[int]) -> None:
    """Delete identities that the run has not seen. They wait for a resolution, which takes them out of their
    profiles."""
    table = tables.identities.c
    rows = bulk.lookup(connection, (table.id, table.run), (table.id,), [(id_,) for id_ in ids])
    unseen = [id_ for id_, run_id in rows if run_id != target.run]
    ProfileRows(connection).add_unresolved(target.workspace, unseen)
    bulk.remove(connection, (table.id,), [(id_,) for id_ in unseen])


def pass_on(connection: Connection, target: ImportTarget, *, resolves: bool) -> bool:
    """Let at most SLICE_ROWS of the identities that imports of the pipeline have changed wait for a resolution, or
    forget them unless `resolves`. Return whether none is left."""
    table = tables.import_changes.c
    query = select(table.identity).where(table.pipeline == target.pipeline).order_by(table.identity).limit(SLICE_ROWS)
    ids = list(connection.scalars(query))
    if resolves:
        ProfileRows(connection).add_unresolved(target.workspace, ids)
    bulk.remove(connection, (table.pipeline, table.identity), [(target.pipeline, id_) for id_ in ids])
    return len(ids) < SLICE_ROWS


def request_resolution(connection: Connection, workspace: int, *, now: int) -> None:
    """Let all identities of a workspace be resolved."""
    bulk.upsert(connection, list(tables.pending_resolutions.c), [(workspace, now)], key=("workspace",))


def requested_resolutions(connection: Connection) -> dict[int, int]:
    """Return the workspaces whose identities have to be resolved after an import, with the time of the request."""
    table = tables.pending_resolutions.c
    return {row.workspace: row.requested_at for row in connection.execute(select(table.workspace, table.requested_at))}


def finish_resolution_request(connection: Connection, workspace: int, requested_at: int) -> None:
    """Delete a request, unless it was made again since."""
    table = tables.pending_resolutions
    connection.execute(delete(table).where(table.c.workspace == workspace, table.c.requested_at == requested_at))


# --- Cursors ------------------------------------------------------------------------------------------------------


def cursor(connection: Connection, pipeline: int, digest: bytes) -> int | None:
    """Return the latest update time that a completed import with this definition has seen; None without any."""
    table = tables.pipeline_cursors.c
    query = select(table.cursor).where(table.pipeline == pipeline, table.digest == digest)
    found: int | None = connection.scalar(query)
    return found


def set_cursor(connection: Connection, pipeline: int, digest: bytes, cursor: int | None) -> None:
    """Store the cursor of a pipeline. None deletes it."""
    table = tables.pipeline_cursors
    if cursor is None:
        connection.execute(delete(table).where(table.c.pipeline == pipeline))
    else:
        bulk.upsert(connection, list(table.c), [(pipeline, digest, cursor)], key=("pipeline",))


def remove_runs_except(connection: Connection, pipelines: Collection[int], *, limit: int) -> int:
    """Delete the progress of runs, cursors and changes of pipelines that are not in `pipelines`. Return the number.

    A run of such a pipeline ends at its next transaction: call it before the identities are deleted.
    """
    removed = 0
    for column in (
        tables.run_progress.c.pipeline,
        tables.pipeline_cursors.c.pipeline,
        tables.import_changes.c.pipeline,
    ):
        gone = sorted(bulk.distinct(connection, column) - set(pipelines))
        removed += bulk.remove_some(connection, column, gone, limit=limit)
    return removed


_encode: Final = msgspec.json.Encoder().encode
