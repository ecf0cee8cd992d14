"""Identities of imports: written in bulk, deleted after a run that did not see them, and passed on for resolution.

Imports run in processes of their own, next to the worker. They write no profiles: the identities that a run has changed
wait in `import_changes`, and are stored as unresolved when the run ends, or all identities of the workspace are
resolved if the run has changed many.
"""

from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from itertools import chain
from typing import Final, TypeVar

import msgspec
from msgspec import Struct
from sqlalchemy import Connection, and_, delete, func, select

from headwater.state import bulk, tables
from headwater.state.identityrows import next_ids
from headwater.state.profiles.rows import ProfileRows
from headwater.state.suppressions import FOREVER, PersonName, Suppressions
from headwater.storage.statements import fetch, run

MAX_TRACKED: Final = 50_000
"""Maximum number of changed identities of a run that are resolved one by one. With more, all identities of the
workspace are resolved, which is faster from about this number on."""
SLICE_ROWS: Final = 2_000
"""Maximum number of identities that one transaction deletes or passes on: some 20 ms."""
SEARCHED_ROWS: Final = 50_000
"""Number of identities that one query looks at for those that a run has not seen: some 50 ms."""

_STATEMENT_ROWS: Final = 2_048
"""Maximum number of rows of a statement of SQLite."""

Imported = tuple[int | None, str]
"""The update time in microseconds since the epoch, None if the source does not state it; and the attributes as JSON."""
_NewRow = tuple[str, int, str]
"""The user id, the update time and the attributes."""
_Row = tuple[int, str, int, str]
"""The identity's id before them."""
_StoredRow = tuple[str, int, int, int, bool | int]
"""The user id, the identity's id, the update time, the run, and whether the attributes are the same."""
_T = TypeVar("_T")
_GIVEN: Final = (tables.identities.c.identity_id, tables.identities.c.attributes)
_NEW: Final = (tables.identities.c.identity_id, tables.identities.c.updated_at, tables.identities.c.attributes)
_CHANGED: Final = (tables.identities.c.id, tables.identities.c.updated_at, tables.identities.c.attributes)
"""The columns of the parameters of PostgreSQL."""


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

    It is fastest if the users are in the order of their ids, which are neighbours in the index then.
    The changed identities are remembered if `is_tracked`. The transaction must have written before.
    """
    suppressed = _find_suppressed(connection, target, users, suppressions)
    if suppressed:
        users = {id_: user for id_, user in users.items() if id_ not in suppressed}
    stored = _find(connection, target, users)
    known = {row[0] for row in stored}
    run_id = target.run
    new: list[_NewRow] = [
        (id_, now if updated_at is None else updated_at, attributes)
        for id_, (updated_at, attributes) in users.items()
        if id_ not in known
    ]
    changed: list[_Row] = []
    seen: list[int] = []
    for id_, key, before_at, before_run, has_same in stored:
        updated_at, attributes = users[id_]
        if before_run == run_id and target.skips_repeats:
            continue
        if not has_same or (updated_at is not None and updated_at != before_at):
            changed.append((key, id_, now if updated_at is None else updated_at, attributes))
        elif before_run != run_id:
            seen.append(key)
    if target.is_full:
        _touch(connection, seen, run_id)
        _keep(connection, target, kept)
    ids = _write(connection, target, changed, new, with_ids=is_tracked)
    if is_tracked:
        _track(connection, target, [*ids, *(row[0] for row in changed)])
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


def _find(connection: Connection, target: ImportTarget, users: Mapping[str, Imported]) -> list[_StoredRow]:
    """Return the identities that exist.

    The join has one search of the index per id, whatever the statistics of the database are.
    """
    columns = "t.identity_id, t.id, t.updated_at, t.run, t.attributes = w.attributes"
    same = f"t.connection = {int(target.connection)} AND t.identity_id = w.id AND t.pipeline = {int(target.pipeline)}"
    given = [(id_, attributes) for id_, (_, attributes) in users.items()]
    if connection.dialect.name == "sqlite":
        found: list[_StoredRow] = []
        for some in _slices(given):
            text = _sqlite_find(columns, same, len(some))
            [(rows,)] = fetch(connection, text, tuple(chain.from_iterable(some)))
            found += _decode_found(rows)
    elif given:
        text = (
            f"SELECT t.* FROM unnest({bulk.postgresql_arrays(_GIVEN)}) AS w(id, attributes) CROSS JOIN LATERAL "
            f"(SELECT {columns} FROM identities t WHERE {same} AND NOT t.is_anonymous OFFSET 0) t"
        )
        found = fetch(connection, text, bulk.postgresql_values(_GIVEN, given))
    else:
        found = []
    return found


def _touch(connection: Connection, ids: list[int], run_id: int) -> None:
    if not ids:
        return
    if connection.dialect.name == "sqlite":
        text = "UPDATE identities SET run = ? WHERE id IN (SELECT value FROM json_each(?))"
        run(connection, text, (run_id, _encode(ids).decode()))
    else:
        run(connection, "UPDATE identities SET run = $1 WHERE id = ANY ($2::bigint[])", (run_id, ids))


def _keep(connection: Connection, target: ImportTarget, kept: Collection[str]) -> None:
    table = tables.identities.c
    key = (table.connection, table.identity_id, table.is_anonymous, table.pipeline)
    keys = [(target.connection, id_, False, target.pipeline) for id_ in kept]
    _touch(connection, [row[0] for row in bulk.lookup(connection, (table.id,), key, keys)], target.run)


def _write(
    connection: Connection, target: ImportTarget, changed: list[_Row], new: list[_NewRow], *, with_ids: bool
) -> list[int]:
    """Write changed and new identities. Return the ids of new ones if `with_ids`."""
    if connection.dialect.name == "sqlite":
        ids = next_ids(connection, len(new)) if new else []
        inserted = [(key, *row) for key, row in zip(ids, new, strict=True)]
        for rows, is_new in ((changed, False), (inserted, True)):
            for some in _slices(rows):
                run(connection, _sqlite_write(target, len(some), is_new=is_new), tuple(chain.from_iterable(some)))
        return ids
    if changed:
        text = (
            f"UPDATE identities t SET updated_at = w.at, attributes = w.attributes, run = {int(target.run)} "
            f"FROM unnest({bulk.postgresql_arrays(_CHANGED)}) AS w(id, at, attributes) WHERE t.id = w.id"
        )
        values = [(key, at, attributes) for key, _, at, attributes in changed]
        run(connection, text, bulk.postgresql_values(_CHANGED, values))
    if not new:
        return []
    text = (
        f"INSERT INTO identities ({_INSERTED}) SELECT {_constants(target)}, w.id, w.at, w.attributes "
        f"FROM unnest({bulk.postgresql_arrays(_NEW)}) AS w(id, at, attributes)"
    )
    parameters = bulk.postgresql_values(_NEW, new)
    if not with_ids:
        run(connection, text, parameters)
        return []
    return [row[0] for row in fetch(connection, f"{text} RETURNING id", parameters)]


def _track(connection: Connection, target: ImportTarget, ids: list[int]) -> None:
    """Remember changed identities."""
    if not ids:
        return
    new = f"INSERT INTO import_changes (pipeline, identity) SELECT {int(target.pipeline)}"
    if connection.dialect.name == "sqlite":
        run(connection, f"{new}, value FROM json_each(?) WHERE TRUE ON CONFLICT DO NOTHING", (_encode(ids).decode(),))
    else:
        run(connection, f"{new}, unnest($1::bigint[]) ON CONFLICT DO NOTHING", (ids,))


_INSERTED: Final = (
    "workspace, connection, is_anonymous, pipeline, anonymous_ids, run, identity_id, updated_at, attributes"
)


def _constants(target: ImportTarget) -> str:
    return f"{int(target.workspace)}, {int(target.connection)}, FALSE, {int(target.pipeline)}, '[]', {int(target.run)}"


# SQLite's driver gives up Python's lock for each step of a statement, and gets it back only when the thread that maps
# pauses. So each statement has many rows and one step: its result is one text. The numbers of rows are powers of two,
# so that few statements are prepared.


def _slices(rows: list[_T]) -> Iterator[list[_T]]:
    """Yield the rows in lists whose lengths are powers of two."""
    start = 0
    while left := len(rows) - start:
        size = min(_STATEMENT_ROWS, 1 << (left.bit_length() - 1))
        yield rows[start : start + size]
        start += size


@lru_cache(maxsize=64)
def _sqlite_find(columns: str, same: str, rows: int) -> str:
    values = ", ".join(["(?, ?)"] * rows)
    return (
        f"WITH w(id, attributes) AS (VALUES {values}) SELECT json_group_array(json_array({columns})) "
        f"FROM w CROSS JOIN identities t ON {same} AND t.is_anonymous = 0"
    )


@lru_cache(maxsize=64)
def _sqlite_write(target: ImportTarget, rows: int, *, is_new: bool) -> str:
    values = ", ".join([f"({_constants(target)}, ?, ?, ?, ?)"] * rows)
    inserted = _INSERTED.replace("run, ", "run, id, ")
    insert = f"INSERT INTO identities ({inserted}) VALUES {values}"
    if is_new:
        return insert
    changed = "updated_at = excluded.updated_at, attributes = excluded.attributes, run = excluded.run"
    return f"{insert} ON CONFLICT (id) DO UPDATE SET {changed}"


# --- The end of a run ---------------------------------------------------------------------------------------------


def find_unseen(connection: Connection, pipeline: int, run_id: int, *, after: int) -> tuple[list[int], int | None]:
    """Look at the next SEARCHED_ROWS identities of a pipeline with ids above `after`, in order.

    Return the ids of those that a run has not seen, at most SLICE_ROWS, and the id after which to continue; None at the
    end.
    """
    table = tables.identities.c
    searched = (
        select(table.id, table.run)
        .where(table.pipeline == pipeline, table.id > after)
        .order_by(table.id)
        .limit(SEARCHED_ROWS)
        .subquery()
    )
    unseen = select(searched.c.id).where(searched.c.run != run_id).order_by(searched.c.id).limit(SLICE_ROWS)
    ids = list(connection.scalars(unseen))
    return ids, ids[-1] if len(ids) == SLICE_ROWS else connection.scalar(select(func.max(searched.c.id)))


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
    table = tables.import_changes
    of_pipeline = table.c.pipeline == target.pipeline
    query = select(table.c.identity).where(of_pipeline).order_by(table.c.identity)
    if resolves:
        ids = list(connection.scalars(query.limit(SLICE_ROWS)))
        ProfileRows(connection).add_unresolved(target.workspace, ids)
        last = ids[-1] if len(ids) == SLICE_ROWS else None
    else:
        last = connection.scalar(query.offset(SLICE_ROWS - 1).limit(1))
    passed_on = of_pipeline if last is None else and_(of_pipeline, table.c.identity <= last)
    connection.execute(delete(table).where(passed_on))
    return last is None


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
_decode_found: Final = msgspec.json.Decoder(list[_StoredRow]).decode
