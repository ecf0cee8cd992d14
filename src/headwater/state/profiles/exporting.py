"""Reads all profiles of a workspace for an export: in an order, with what the export wrote before, in bounded memory.

The database sorts, on its disk if it must, and returns rows in batches. All rows are of one snapshot.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final

from msgspec import Struct
from sqlalchemy import (
    JSON,
    Boolean,
    ColumnElement,
    CompoundSelect,
    Connection,
    LargeBinary,
    Select,
    String,
    and_,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    type_coerce,
)

from headwater.filters import CheckedFilter
from headwater.schemas import Path, StringType
from headwater.state.profiles import conditions, tables, values
from headwater.state.profiles.searching import Order
from headwater.storage.database import as_unavailable
from headwater.storage.sessions import Session, Sessions, allow_pauses, begin_snapshot, sort_on_disk
from headwater.storage.statements import Cursor, open_cursor

BATCH_PROFILES: Final = 2_000
"""Number of profiles of a batch: about 20 ms of work for most exports."""
MAX_COMPARED_IDS: Final = 20_000
"""Maximum number of external ids that the database compares with those of records."""
MAX_IDLE_SECONDS: Final = 900.0
"""Time limit of PostgreSQL for a pause between two batches: a function or a destination may be slow."""
_WHAT: Final = "the state store's database"


class ProfileSelection(Struct, frozen=True, kw_only=True):
    """The profiles of an export, and their order."""

    workspace: int
    filter: CheckedFilter | None = None
    order: Order | None = None
    """The property by which profiles are ordered, then by id; those without it are the last. None for the id."""
    pipeline: int | None = None
    """The pipeline whose records of exports are read too."""
    since: int | None = None
    """Reads only profiles with a later version, and those whose record is failed. It needs a pipeline, and no order."""


class ExportRecord(Struct, frozen=True, gc=False):
    """A profile that a pipeline has written to its destination, or could not write."""

    profile: int
    source: bytes
    """The digest of the attributes that were read."""
    content: bytes
    """The digest of what was written; empty if nothing was."""
    external_id: str
    """The ids of the user in the application, or the key of the row; empty if it is not known."""
    is_failed: bool
    run: int
    """The run that wrote it."""


SelectedProfile = Sequence[Any]
"""A row: id, kpid, attributes as a JSON object in UTF-8, and with a pipeline the columns of its record after the
profile, or None without a record."""
ID: Final = 0
KPID: Final = 1
ATTRIBUTES: Final = 2
RECORD: Final = 3
"""The index of the first column of the record."""


class RowStream:
    """The rows of a query, in batches."""

    def __init__(self, session: Session, cursor: Cursor) -> None:
        self._session = session
        self._cursor = cursor

    async def read(self, count: int = BATCH_PROFILES) -> Sequence[Any]:
        """Return the next rows, at most `count`; none at the end. Raises Unavailable."""
        async with as_unavailable(_WHAT):
            rows: Sequence[Any] = await self._session.run(lambda _: self._cursor.fetchmany(count))
            return rows


class ProfileStream(RowStream):
    """The profiles of a selection, in batches of `SelectedProfile`."""

    def __init__(self, session: Session, cursor: Cursor, filter: CheckedFilter | None, state: "_SnapshotState") -> None:
        super().__init__(session, cursor)
        self._test = None if filter is None else conditions.compile_test(filter)
        self.version = state.version
        """The latest version of a profile of the workspace; 0 without profiles."""
        self.confirmed = state.confirmed
        """With `since` the number of records of the pipeline that are not failed; otherwise 0."""

    @property
    def holds_all(self) -> bool:
        """Whether all rows are in the selection."""
        return self._test is None

    def holds(self, row: SelectedProfile) -> bool:
        """Return whether a row is in the selection."""
        return self._test is None or self._test(row[ATTRIBUTES].decode())


class _SnapshotState(Struct, frozen=True):
    version: int
    confirmed: int


class ProfileExports:
    """Reads what exports need, each time in one snapshot. Everything read ends with the block."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    @asynccontextmanager
    async def read(self, selection: ProfileSelection) -> AsyncIterator[ProfileStream]:
        """Start to read profiles. Raises Unavailable."""
        build = partial(build_query, selection)
        indexed = "profiles_by_workspace" if selection.since is None else ""
        async with self._start(build, indexed=indexed) as (session, cursor):
            async with as_unavailable(_WHAT):
                state = await session.run(partial(_read_state, selection=selection))
            yield ProfileStream(session, cursor, selection.filter, state)

    @asynccontextmanager
    async def read_external_ids(self, pipeline: int, ids: Collection[str]) -> AsyncIterator[RowStream]:
        """Start to read the profile and the external id of records of a pipeline: of those with one of the ids, or of
        all records if there are more than MAX_COMPARED_IDS. Raises Unavailable."""
        records = tables.exports.c

        def build(*, is_sqlite: bool) -> Select[Any]:
            query = select(records.profile, records.external_id).where(records.pipeline == pipeline)
            if len(ids) > MAX_COMPARED_IDS:
                return query
            return query.where(records.external_id.in_([id_ for id_ in ids if is_sqlite or "\0" not in id_]))

        async with self._start(build) as (session, cursor):
            yield RowStream(session, cursor)

    @asynccontextmanager
    async def _start(
        self, build: Callable[..., Select[Any]], *, indexed: str = ""
    ) -> AsyncIterator[tuple[Session, Cursor]]:
        def start(connection: Connection) -> Cursor:
            sort_on_disk(connection)
            begin_snapshot(connection)
            allow_pauses(connection, MAX_IDLE_SECONDS)
            return open_cursor(connection, build(is_sqlite=connection.dialect.name == "sqlite"), indexed=indexed)

        async with AsyncExitStack() as exits:
            async with as_unavailable(_WHAT):
                session = await exits.enter_async_context(self._sessions.open())
                cursor = await session.run(start)
            exits.push_async_callback(session.run, lambda _: cursor.close())
            yield session, cursor


def _read_state(connection: Connection, selection: ProfileSelection) -> _SnapshotState:
    version = select(func.max(tables.profiles.c.version)).where(tables.profiles.c.workspace == selection.workspace)
    confirmed = 0
    if selection.since is not None:
        records = tables.exports.c
        count = select(func.count()).select_from(tables.exports)
        is_confirmed = records.pipeline == selection.pipeline, ~records.is_failed
        confirmed = int(connection.execute(count.where(*is_confirmed)).scalar_one())
    return _SnapshotState(connection.execute(version).scalar_one() or 0, confirmed)


def build_query(selection: ProfileSelection, *, is_sqlite: bool) -> Select[Any]:
    """Return the query for a selection, or for more if it has a filter: for all profiles with a record, too."""
    profiles, workspace = tables.profiles.c, selection.workspace
    attributes: ColumnElement[Any] = (
        cast(profiles.attributes, LargeBinary)
        if is_sqlite
        else func.convert_to(profiles.attributes, literal_column("'UTF8'"))
    )
    columns: list[Any] = [profiles.id, profiles.kpid, type_coerce(attributes, LargeBinary).label("attributes")]
    source: Any = tables.profiles
    records = tables.exports.c
    if selection.pipeline is not None:
        columns += [records.source, records.content, records.external_id, records.is_failed, records.run]
        same = and_(records.pipeline == selection.pipeline, records.profile == profiles.id)
        source = source.outerjoin(tables.exports, same)
    order: list[Any] = [profiles.id]
    if selection.order is not None:
        found = tables.profile_values.alias("v")
        key = values.property_key(workspace, ".".join(selection.order.path))
        source = source.outerjoin(found, and_(found.c.property == key, found.c.profile == profiles.id))
        order = [*_sort_columns(selection.order, found.c.value, is_sqlite=is_sqlite), *order]
    query = select(*columns).select_from(source).where(profiles.workspace == workspace)
    if selection.since is not None:
        query = query.where(profiles.id.in_(_changed(selection)))
    narrowed = [] if selection.filter is None else _narrowed(workspace, selection.filter, is_sqlite=is_sqlite)
    if narrowed and selection.pipeline is not None:  # a profile that has left the selection must be found
        narrowed = [or_(records.profile.is_not(None), and_(*narrowed))]
    return query.where(*narrowed).order_by(*order)


def _changed(selection: ProfileSelection) -> CompoundSelect[Any]:
    """Return the query for the ids of profiles that changed, or whose record is failed."""
    changed, records = tables.profiles.alias("t").c, tables.exports.alias("failed").c
    later = select(changed.id).where(changed.workspace == selection.workspace, changed.version > selection.since)
    is_failed: ColumnElement[bool] = literal_column("failed.is_failed", Boolean)  # as in the partial index
    return later.union(select(records.profile).where(records.pipeline == selection.pipeline, is_failed))


def _sort_columns(order: Order, value: ColumnElement[Any], *, is_sqlite: bool) -> list[ColumnElement[Any]]:
    """Return the expressions by which values are sorted: strings that are stored shortened by their whole text too.

    Rows without a value are the last. In SQLite they have a blob, which comes after all texts: it compares records that
    begin with a text in two thirds of the time of others.
    """
    sorted_by = conditions.sort_value(order.type, value, is_sqlite=is_sqlite)
    columns: list[ColumnElement[Any]] = [value.is_(None), sorted_by]
    if is_sqlite:
        columns = [func.coalesce(sorted_by, literal_column("x''"))]
    if isinstance(order.type, StringType):
        is_long = func.length(value) > values.MAX_TEXT + 1
        whole = _text_at(order.path, is_sqlite=is_sqlite)
        if not is_sqlite:  # PostgreSQL has no text with NUL, and raises for an attribute with one
            is_long = and_(is_long, func.strpos(tables.profiles.c.attributes, "\\u0000") == 0)
        columns.append(case((is_long, whole), else_=null()))
    return columns


def _text_at(path: Path, *, is_sqlite: bool) -> ColumnElement[Any]:
    """Return the text of an attribute. Names of properties need no quotes in a path."""
    attributes = tables.profiles.c.attributes
    if is_sqlite:
        return func.json_extract(attributes, "$." + ".".join(path), type_=String())
    text: ColumnElement[Any] = cast(attributes, JSON()).op("#>>")(literal_column("'{" + ",".join(path) + "}'::text[]"))
    return type_coerce(text, String()).collate("C")


def _narrowed(workspace: int, filter: CheckedFilter, *, is_sqlite: bool) -> list[ColumnElement[bool]]:
    """Return conditions that every profile in the selection meets, so that most others are not read."""
    if filter.logical == "or" and len(filter.conditions) > 1:
        return []
    found: list[ColumnElement[bool]] = []
    for index, condition in enumerate(filter.conditions):
        other = tables.profile_values.alias(f"c{index}")
        narrowed = conditions.narrow(condition, type_coerce(other.c.value, String()), is_sqlite=is_sqlite)
        if narrowed is not None:
            key = values.property_key(workspace, ".".join(condition.path))
            same = (other.c.property == key, other.c.profile == tables.profiles.c.id)
            found.append(exists(select(literal(1)).select_from(other).where(*same, narrowed)))
    return found
