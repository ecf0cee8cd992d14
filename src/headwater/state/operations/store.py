"""The operations in a SQL database.

Transactions begin with their write: on SQLite a transaction that has read before cannot write once another process has
written.
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, delete, exists, func, insert, select, tuple_, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.state.operations.model import (
    PROFILE_KINDS,
    RESOLUTION_KINDS,
    Operation,
    OperationCursor,
    OperationKind,
    OperationParameters,
    OperationStatus,
    decode_parameters,
    encode_parameters,
)
from headwater.state.operations.tables import operations
from headwater.storage.changes import Changes
from headwater.storage.database import Location, as_unavailable, open_database
from headwater.storage.leases import lease_time
from headwater.storage.scrubbing import make_scrubber

MAX_UNFINISHED: Final = 20
"""Maximum number of operations of a workspace that are pending or running."""
MAX_KEPT: Final = 1_000
"""Number of operations of a workspace that are kept, in addition to unfinished ones."""
MAX_EXAMINED: Final = 50
"""Maximum number of operations that one call of `remove_selected` examines."""
LEASE_SECONDS: Final = 10.0
"""Time after its last step at which another process may continue an operation."""
_WHAT: Final = "the operations' database"
_MAX_ATTEMPTS: Final = 10
"""Maximum number of random identifiers that are tried for one operation."""
_c: Final = operations.c


class OperationLost(Unavailable):
    """The operation has ended, or another process executes it."""


class OperationStore:
    """The operations. Every method raises Unavailable while the database is unavailable.

    Backends create operations and request their cancel; the courier and the worker execute them.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock, identifiers: Identifiers) -> None:
        self._engine = engine
        self._changes = Changes(engine)
        self._scrubber = make_scrubber(engine)
        self._clock = clock
        self._identifiers = identifiers

    # People

    async def create(self, workspace: int, parameters: OperationParameters, total: int | None) -> Operation:
        """Create a pending operation.

        Raises Unprocessable with OperationAlreadyExecuting if the workspace has `MAX_UNFINISHED` unfinished ones, or,
        for the kinds in `PROFILE_KINDS`, an unfinished one of `RESOLUTION_KINDS`.
        """
        for _ in range(_MAX_ATTEMPTS):
            operation = Operation(
                id=self._identifiers.identifier(),
                workspace=workspace,
                parameters=parameters,
                total=total,
                created_at=self._now(),
            )
            try:
                async with as_unavailable(_WHAT), self._engine.begin() as connection:
                    await self._insert(connection, operation)
                return operation
            except IntegrityError:  # the identifier exists, or a resolution was created in the meantime
                if operation.kind in RESOLUTION_KINDS and await self.unfinished(workspace, RESOLUTION_KINDS):
                    raise _resolving() from None
        raise Unavailable("no free identifier of an operation was found")

    async def find(self, id_: int, workspace: int | None = None) -> Operation | None:
        """Return an operation, if it exists in this workspace; None stands for any workspace."""
        query = select(operations).where(_c.id == id_)
        if workspace is not None:
            query = query.where(_c.workspace == workspace)
        found = await self._read(query)
        return found[0] if found else None

    async def page(
        self,
        workspace: int | None = None,
        *,
        kinds: Collection[OperationKind] | None = None,
        after: OperationCursor | None = None,
        limit: int,
    ) -> list[Operation]:
        """Return the operations of a workspace, or of all if it is None, the newest first; only those of some kinds if
        these are given."""
        query = select(operations)
        if kinds is not None:
            query = query.where(_c.kind.in_(kinds))
        if workspace is not None:
            query = query.where(_c.workspace == workspace)
        if after is not None:
            query = query.where(tuple_(_c.created_at, _c.id) < tuple_(after.created_at, after.id))
        return await self._read(query.order_by(_c.created_at.desc(), _c.id.desc()).limit(limit))

    async def latest(self, workspace: int, kind: OperationKind) -> Operation | None:
        """Return the operation of this kind that was created last; None before the first."""
        query = select(operations).where(_c.workspace == workspace, _c.kind == kind)
        found = await self._read(query.order_by(_c.created_at.desc(), _c.id.desc()).limit(1))
        return found[0] if found else None

    async def unfinished(self, workspace: int, kinds: Collection[OperationKind]) -> list[Operation]:
        """Return the operations of these kinds that have not ended, the oldest first."""
        query = select(operations).where(_c.workspace == workspace, _c.kind.in_(kinds), _c.ended_at.is_(None))
        return await self._read(query.order_by(_c.created_at, _c.id))

    async def cancel(self, id_: int, workspace: int | None = None) -> Operation | None:
        """Request that an operation ends, and return it; None if it does not exist in this workspace.

        A pending operation is Cancelled. A running one becomes so after its present step. One that has ended stays as
        it is.
        """
        conditions = [_c.id == id_, _c.ended_at.is_(None)]
        if workspace is not None:
            conditions.append(_c.workspace == workspace)
        now = self._now()
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            ended = update(operations).where(*conditions, _c.status == "Pending")
            await connection.execute(ended.values(is_cancelled=True, status="Cancelled", ended_at=now))
            await connection.execute(update(operations).where(*conditions).values(is_cancelled=True))
        return await self.find(id_, workspace)

    # The executing process

    async def claim(
        self,
        owner: str,
        *,
        kinds: Collection[OperationKind],
        without: Collection[int] = (),
        after: Collection[OperationKind] = (),
    ) -> Operation | None:
        """Take the oldest operation of these kinds that is pending, or whose process has stopped, and return it; None
        if there is none.

        `owner` is unique to the process. Operations of the workspaces in `without`, and of those with an unfinished
        operation of the kinds in `after`, are not taken.
        """
        chosen = tuple(kinds)
        if self._changes.are_known and not await self._changes.once(chosen, lambda: self._has_unfinished(chosen)):
            return None
        is_free = [_c.ended_at.is_(None), _c.lease_until < lease_time(self._engine, self._clock)]
        if after:
            others = operations.alias()
            is_earlier = (others.c.workspace == _c.workspace, others.c.kind.in_(after), others.c.ended_at.is_(None))
            is_free.append(~exists().where(*is_earlier))
        oldest = select(_c.id).where(*is_free, _c.kind.in_(kinds), _c.workspace.not_in(without))
        oldest = oldest.order_by(_c.created_at, _c.id).limit(1)
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            id_ = (await connection.execute(oldest)).scalar_one_or_none()
        if id_ is None:
            return None
        # Another process may have taken it in the meantime; the next call finds another one.
        taken = (
            update(operations)
            .where(_c.id == id_, *is_free)
            .values(
                owner=owner,
                lease_until=self._lease_end(),
                status="Running",
                started_at=func.coalesce(_c.started_at, self._now()),
            )
            .returning(operations)
        )
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            row = (await connection.execute(taken)).one_or_none()
        return None if row is None else _operation(row)

    async def is_executing(self, workspace: int, kinds: Collection[OperationKind]) -> bool:
        """Return whether a process executes an operation of these kinds of a workspace."""
        is_leased = _c.lease_until >= lease_time(self._engine, self._clock)
        query = select(operations).where(_c.workspace == workspace, _c.kind.in_(kinds), _c.ended_at.is_(None))
        return bool(await self._read(query.where(is_leased).limit(1)))

    async def _has_unfinished(self, kinds: Collection[OperationKind]) -> bool:
        query = select(_c.id).where(_c.ended_at.is_(None), _c.kind.in_(kinds)).limit(1)
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            return (await connection.execute(query)).first() is not None

    async def advance(self, id_: int, owner: str, *, done: int, enqueued: int, total: int | None) -> bool:
        """Store the progress of an operation and prolong the lease; return whether a cancel was requested.

        Raises OperationLost if the owner is another process.
        """
        values = {"done": done, "enqueued": enqueued, "total": total, "lease_until": self._lease_end()}
        moved = self._owned(id_, owner).values(**values).returning(_c.is_cancelled)
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            is_cancelled: bool | None = (await connection.execute(moved)).scalar_one_or_none()
        if is_cancelled is None:
            raise OperationLost(f"operation {id_} is executed by another process")
        return is_cancelled

    async def finish(self, id_: int, owner: str, status: OperationStatus, error: str = "", *, result: str = "") -> None:
        """End an operation. `result` is JSON. Raises OperationLost if the owner is another process."""
        ended = self._owned(id_, owner).values(
            status=status, error=error, result=result, ended_at=self._now(), lease_until=0
        )
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            if (await connection.execute(ended)).rowcount != 1:
                raise OperationLost(f"operation {id_} is executed by another process")

    async def replace_parameters(self, id_: int, owner: str, parameters: OperationParameters) -> None:
        """Replace the parameters of an operation, to remove data of a person from them. Raises OperationLost if the
        owner is another process."""
        changed = self._owned(id_, owner).values(parameters=encode_parameters(parameters))
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            if (await connection.execute(changed)).rowcount != 1:
                raise OperationLost(f"operation {id_} is executed by another process")

    async def remove_selected(
        self, workspace: int, selects: Callable[[OperationParameters], bool], *, after: int, dry: bool
    ) -> tuple[int, int | None]:
        """Delete ended operations whose parameters are selected, among the next `MAX_EXAMINED` with ids above `after`.

        Return their number, and the last examined id; None at the end. With `dry` none is deleted.
        """
        ended = select(_c.id, _c.parameters).where(_c.workspace == workspace, _c.ended_at.is_not(None), _c.id > after)
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            rows = (await connection.execute(ended.order_by(_c.id).limit(MAX_EXAMINED))).all()
        selected = [row.id for row in rows if selects(decode_parameters(row.parameters))]
        if selected and not dry:
            async with as_unavailable(_WHAT), self._engine.begin() as connection:
                await connection.execute(delete(operations).where(_c.id.in_(selected)))
        return len(selected), rows[-1].id if len(rows) == MAX_EXAMINED else None

    async def overwrite_removed(self) -> bool:
        """Overwrite what was deleted from the file. Return whether everything was done."""
        return await self._scrubber.step()

    async def release(self, id_: int, owner: str) -> None:
        """Let another process continue an operation immediately."""
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            await connection.execute(self._owned(id_, owner).values(owner="", lease_until=0))

    async def trim(self, ended_before: int) -> None:
        """Delete the operations that ended before a time."""
        async with as_unavailable(_WHAT), self._engine.begin() as connection:
            await connection.execute(delete(operations).where(_c.ended_at < ended_before))

    async def workspaces(self) -> set[int]:
        """Return the workspaces that have operations."""
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            return set(await connection.scalars(select(_c.workspace).distinct()))

    async def remove_workspaces(self, workspaces: Collection[int]) -> None:
        """Delete the operations of workspaces that were deleted."""
        for workspace in workspaces:
            async with as_unavailable(_WHAT), self._engine.begin() as connection:
                await connection.execute(delete(operations).where(_c.workspace == workspace))

    async def _insert(self, connection: AsyncConnection, operation: Operation) -> None:
        await connection.execute(
            insert(operations).values(
                id=operation.id,
                workspace=operation.workspace,
                kind=operation.kind,
                parameters=encode_parameters(operation.parameters),
                status=operation.status,
                is_cancelled=False,
                total=operation.total,
                done=0,
                enqueued=0,
                error="",
                created_at=operation.created_at,
                owner="",
                lease_until=0,
            )
        )
        own = _c.workspace == operation.workspace
        newest = select(_c.created_at).where(own).order_by(_c.created_at.desc(), _c.id.desc())
        edge = newest.offset(MAX_KEPT).limit(1).scalar_subquery()
        await connection.execute(delete(operations).where(own, _c.created_at <= edge, _c.ended_at.is_not(None)))
        if operation.kind in PROFILE_KINDS:
            resolving = select(_c.id).where(own, _c.kind.in_(RESOLUTION_KINDS), _c.ended_at.is_(None))
            if (await connection.scalars(resolving.where(_c.id != operation.id))).first() is not None:
                raise _resolving()
        unfinished = select(func.count()).select_from(operations)
        unfinished = unfinished.where(own, _c.ended_at.is_(None))
        if (await connection.execute(unfinished)).scalar_one() > MAX_UNFINISHED:
            raise Unprocessable(
                "OperationAlreadyExecuting",
                f"{MAX_UNFINISHED} operations of the workspace are executing already: cancel one, or wait for its end",
            )

    @staticmethod
    def _owned(id_: int, owner: str) -> Any:
        return update(operations).where(_c.id == id_, _c.owner == owner, _c.ended_at.is_(None))

    async def _read(self, query: Select[Any]) -> list[Operation]:
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            return [_operation(row) for row in await connection.execute(query)]

    def _now(self) -> int:
        return microseconds(self._clock.now())

    def _lease_end(self) -> ColumnElement[int]:
        return lease_time(self._engine, self._clock) + int(LEASE_SECONDS * 1e6)


def _resolving() -> Unprocessable:
    return Unprocessable(
        "OperationAlreadyExecuting",
        "an identity resolution or a change of the profile schema of the workspace is executing: wait for its end",
    )


def _operation(row: Any) -> Operation:
    return Operation(
        id=row.id,
        workspace=row.workspace,
        parameters=decode_parameters(row.parameters),
        status=row.status,
        is_cancelled=row.is_cancelled,
        total=row.total,
        done=row.done,
        enqueued=row.enqueued,
        error=row.error,
        result=row.result,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
    )


@asynccontextmanager
async def open_operations(
    location: Location, *, clock: Clock, identifiers: Identifiers
) -> AsyncIterator[OperationStore]:
    """Open the operations at `location`, migrate their table, and close them at the end of the block."""
    async with open_database(location, "headwater.state.operations.migrations", cache_mib=1) as engine:
        yield OperationStore(engine, clock, identifiers)
