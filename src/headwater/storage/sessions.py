"""Transactions as synchronous work over one connection: what belongs together goes to the database in one trip.

SQLite's work is done in a thread. An async driver would cross to its thread for each call of the DB-API, three or four
times for a statement, and each crossing costs as much as the statement (decision 0015). PostgreSQL is spoken to by its
async driver. Which of the two it is, the work does not see.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headwater.base.threads import SerialExecutor
from headwater.storage.database import configure_sqlite

MAX_SESSIONS: Final = 6
"""On one SQLite file; each is a thread. One writes, the others look whether there is news."""
SESSION_TIMEOUT_SECONDS: Final = 5.0
"""How long a block waits for one of them."""

_Result = TypeVar("_Result")


class Session(Protocol):
    """One connection, for the time of a block. What is not committed when the block ends is undone."""

    async def run(self, work: Callable[[Connection], _Result]) -> _Result:
        """Do `work`, in another thread perhaps: it uses its connection and what nobody changes meanwhile.

        When the caller is cancelled the work may still be done to its end, but nothing follows it except the undoing.
        """


class Sessions(Protocol):
    """Sessions on one database."""

    @property
    def engine(self) -> Engine:
        """What the sessions' connections are made by."""

    def open(self) -> AbstractAsyncContextManager[Session]:
        """A session that nobody else uses during the block. Raises TimeoutError, of SQLAlchemy or Python, when all are
        taken for too long."""


@asynccontextmanager
async def sessions(engine: AsyncEngine) -> AsyncIterator[Sessions]:
    """Sessions on the database of `engine`, which is the caller's to dispose of; all are closed at the block's end."""
    if engine.dialect.name != "sqlite":
        yield _AsyncSessions(engine)
        return
    in_threads = create_engine(engine.url.set(drivername="sqlite"), poolclass=NullPool, hide_parameters=True)
    configure_sqlite(in_threads)
    threads = _ThreadSessions(in_threads)
    try:
        yield threads
    finally:
        threads.close()


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """Every statement of the block sees the same state of the database. Nothing may have been asked before it."""
    if connection.dialect.name == "sqlite":
        # The driver opens a transaction for writes only: without this each SELECT would see a newer state.
        connection.exec_driver_sql("BEGIN")
    else:
        connection.execution_options(isolation_level="REPEATABLE READ")
    try:
        yield
    finally:
        connection.rollback()


class _AsyncSession:
    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection

    async def run(self, work: Callable[[Connection], _Result]) -> _Result:
        return await self._connection.run_sync(work)


class _AsyncSessions:
    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine.sync_engine
        self._engine = engine

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Session]:
        async with self._engine.connect() as connection:
            yield _AsyncSession(connection)


class _ThreadSession:
    """A connection and the one thread that it lives in, so that whatever is asked of it happens in order."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._thread = SerialExecutor("sqlite")
        self._is_settled = True
        """Whether it is certain that no transaction is open."""

    async def run(self, work: Callable[[Connection], _Result]) -> _Result:
        self._is_settled = False
        result, self._is_settled = await self._thread.run(partial(self._do, work))
        return result

    async def settle(self) -> None:
        """Undo what was not committed."""
        if not self._is_settled:
            await self.run(Connection.rollback)

    def close(self) -> None:
        """Does not wait: a transaction that is still open is undone when its work has ended."""
        self._thread.abandon(self._disconnect)

    def _do(self, work: Callable[[Connection], _Result]) -> tuple[_Result, bool]:
        if self._connection is None:
            self._connection = self._engine.connect()
        result = work(self._connection)
        return result, not self._connection.in_transaction()

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()


class _ThreadSessions:
    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._idle: list[_ThreadSession] = []
        self._places = asyncio.Semaphore(MAX_SESSIONS)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Session]:
        async with asyncio.timeout(SESSION_TIMEOUT_SECONDS):
            await self._places.acquire()
        session = self._idle.pop() if self._idle else _ThreadSession(self.engine)
        try:
            yield session
        finally:
            try:
                await session.settle()
            except BaseException:
                session.close()
                raise
            else:
                self._idle.append(session)
            finally:
                self._places.release()

    def close(self) -> None:
        for session in self._idle:
            session.close()
