"""The records of exports: which profiles a pipeline has written to its destination, and how.

A record is written after the destination has confirmed. So a profile whose record has the same digests need not be
written again, and one that failed, or whose confirmation was lost in a crash, is due in the next run. A record is
deleted with its profile, which the worker does, and its pipeline, and when the profile leaves the filter of the
pipeline; nothing is ever deleted in a destination.

A run that compared all profiles leaves a checkpoint: every profile of the selection with its version or an earlier one
has a record. The next run reads only profiles with later versions, and those whose record is failed.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Final

from msgspec import Struct
from sqlalchemy import Connection, select

from headwater.state import bulk
from headwater.state.profiles.exporting import ExportRecord
from headwater.state.profiles.tables import export_checkpoints, exports, profiles

MAX_WRITTEN_RECORDS: Final = 4_000
"""Maximum number of records that one call should write or remove: about 50 ms, in which the worker waits."""
_COLUMNS: Final = list(exports.c)
_KEY: Final = (exports.c.pipeline, exports.c.profile)


class ExportCheckpoint(Struct, frozen=True):
    """The place up to which a pipeline has records of all profiles."""

    definition: bytes
    """A digest of the definition of the pipeline."""
    version: int
    """The latest version of a profile of the workspace."""


def write_records(connection: Connection, pipeline: int, records: Sequence[ExportRecord]) -> None:
    """Write the records of different profiles, except those whose profile has been deleted."""
    present = _keep_profiles(connection, [record.profile for record in records])
    rows = [
        (
            pipeline,
            record.profile,
            record.source,
            record.content,
            record.external_id,
            record.is_failed,
            record.run,
        )
        for record in records
        if record.profile in present
    ]
    bulk.upsert(connection, _COLUMNS, sorted(rows), key=("pipeline", "profile"))


def remove_records(connection: Connection, pipeline: int, ids: Collection[int]) -> int:
    """Delete the records of these profiles. Return their number."""
    return bulk.remove(connection, _KEY, [(pipeline, id_) for id_ in sorted(ids)])


def count_records_of_profiles(connection: Connection, ids: Collection[int]) -> int:
    """Return the number of records of these profiles of all pipelines."""
    key = (exports.c.profile,)
    return len(bulk.lookup(connection, key, key, [(id_,) for id_ in sorted(ids)]))


def remove_records_except(connection: Connection, pipelines: Collection[int], *, limit: int) -> int:
    """Delete records of pipelines that are not in `pipelines`, at most `limit`, and checkpoints. Return the number of
    records."""
    old = set(connection.scalars(select(export_checkpoints.c.pipeline))) - set(pipelines)
    remove_checkpoints(connection, old)
    gone = sorted(bulk.distinct(connection, exports.c.pipeline) - set(pipelines))
    return bulk.remove_some(connection, exports.c.pipeline, gone, limit=limit)


def existing_profiles(connection: Connection, ids: Iterable[int]) -> set[int]:
    """Return those of the profiles that exist."""
    column = profiles.c.id
    return {id_ for (id_,) in bulk.lookup(connection, (column,), (column,), ((id_,) for id_ in ids))}


def _keep_profiles(connection: Connection, ids: Collection[int]) -> set[int]:
    """Return those of the profiles that exist, and on PostgreSQL let their deletion wait for the end of the
    transaction. A profile that is being deleted is left out: waiting for it could be a deadlock."""
    if connection.dialect.name == "sqlite":
        return existing_profiles(connection, ids)
    query = select(profiles.c.id).where(profiles.c.id.in_(ids))
    return set(connection.scalars(query.with_for_update(read=True, key_share=True, skip_locked=True)))


def read_checkpoint(connection: Connection, pipeline: int) -> ExportCheckpoint | None:
    """Return the checkpoint of a pipeline; None if no run has left one."""
    table = export_checkpoints.c
    row = connection.execute(select(table.definition, table.version).where(table.pipeline == pipeline)).first()
    return None if row is None else ExportCheckpoint(row.definition, row.version)


def write_checkpoint(connection: Connection, pipeline: int, checkpoint: ExportCheckpoint) -> None:
    """Write the checkpoint of a pipeline."""
    row = (pipeline, checkpoint.definition, checkpoint.version)
    bulk.upsert(connection, list(export_checkpoints.c), [row], key=("pipeline",))


def remove_checkpoints(connection: Connection, pipelines: Collection[int]) -> None:
    """Delete the checkpoints of these pipelines."""
    bulk.remove(connection, (export_checkpoints.c.pipeline,), [(pipeline,) for pipeline in sorted(pipelines)])


def find_kpids(connection: Connection, ids: Iterable[int]) -> dict[int, bytes]:
    """Return the public ids of those of the profiles that exist."""
    table = profiles.c
    rows = bulk.lookup(connection, (table.id, table.kpid), (table.id,), ((id_,) for id_ in ids))
    return {id_: bytes(kpid) for id_, kpid in rows}
