"""The records of exports: which profiles a pipeline has written to its destination, and how.

A record is written after the destination has confirmed. So a profile whose record has the same digests need not be
written again, and one that failed, or whose confirmation was lost in a crash, is due in the next run. A record is
deleted when its profile or its pipeline is deleted, when the profile leaves the filter of the pipeline, and by an
erasure; nothing is ever deleted in a destination.
"""

from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Select, exists, func, select

from headwater.state import bulk
from headwater.state.profiles.exporting import ExportRecord
from headwater.state.profiles.tables import exports, profiles

MAX_WRITTEN_RECORDS: Final = 4_000
"""Maximum number of records that one call should write or remove: about 50 ms, in which the worker waits."""
_COLUMNS: Final = list(exports.c)
_KEY: Final = (exports.c.pipeline, exports.c.profile)


def write_records(connection: Connection, pipeline: int, records: Sequence[ExportRecord]) -> None:
    """Write the records of different profiles, except those whose profile has been deleted."""
    present = existing_profiles(connection, [record.profile for record in records])
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


def remove_records_of_profiles(connection: Connection, ids: Collection[int], *, dry: bool = False) -> int:
    """Delete the records of these profiles of all pipelines. Return their number. With `dry` they stay."""
    keys = [(pipeline, id_) for pipeline in sorted(bulk.distinct(connection, exports.c.pipeline)) for id_ in ids]
    return len(bulk.lookup(connection, _KEY, _KEY, keys)) if dry else bulk.remove(connection, _KEY, keys)


def remove_records_except(connection: Connection, pipelines: Collection[int], *, limit: int) -> int:
    """Delete records of pipelines that are not in `pipelines`, at most `limit`. Return their number."""
    gone = sorted(bulk.distinct(connection, exports.c.pipeline) - set(pipelines))
    return bulk.remove_some(connection, exports.c.pipeline, gone, limit=limit)


def existing_profiles(connection: Connection, ids: Iterable[int]) -> set[int]:
    """Return those of the profiles that exist."""
    column = profiles.c.id
    return {id_ for (id_,) in bulk.lookup(connection, (column,), (column,), ((id_,) for id_ in ids))}


def count_records(connection: Connection, pipeline: int) -> int:
    """Return the number of records of a pipeline."""
    query = select(func.count()).select_from(exports).where(exports.c.pipeline == pipeline)
    return int(connection.execute(query).scalar_one())


def find_kpids(connection: Connection, ids: Iterable[int]) -> dict[int, bytes]:
    """Return the public ids of those of the profiles that exist."""
    table = profiles.c
    rows = bulk.lookup(connection, (table.id, table.kpid), (table.id,), ((id_,) for id_ in ids))
    return {id_: bytes(kpid) for id_, kpid in rows}


def outdated(pipeline: int, after: int, limit: int) -> Select[Any]:
    """Return the query for profiles with a record of the pipeline that do not exist, in ascending order."""
    table = exports.c
    gone = ~exists(select(profiles.c.id).where(profiles.c.id == table.profile))
    query = select(table.profile).where(table.pipeline == pipeline, table.profile > after, gone)
    return query.order_by(table.profile).limit(limit)
