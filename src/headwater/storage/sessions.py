"""Transactions as synchronous work on one connection, so that statements that belong together need one thread change.

SQLite's work runs in a thread. An async driver would switch to its thread for each call of the DB-API, three or four
times for a statement, and each switch costs as much as the statement (decision 0015). PostgreSQL has its async driver.
The work is the same for both.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from functools import partial
from typing import Final, Protocol, TypeVar

from sqlalchemy import Connection, Engine, NullPool, create_engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from headwater.base.threads import SerialExecutor
from headwater.storage.database import configure_sqlite, is_outage
from headwater.storage.scrubbing import make_scrubber
from headwater.storage.statements import run

MAX_SESSIONS: Final = 6
"""Maximum number of sessions on one SQLite file. Each is a thread: one writes, the others check for changes."""
SESSION_TIMEOUT_SECONDS: Final = 5.0
"""Time limit of waiting for a session."""

_Result = TypeVar("_Result")


class Session(Protocol):
    """A connection for the duration of a block. Uncommitted work is rolled back when the block ends."""

    async def run(self, work: Callable[[Connection], _Result]) -> _Result:
        """Run `work`, possibly in another thread: it may use its connection, and data that is not changed meanwhile.

        If the caller is cancelled, the work may still complete; then it is rolled back.
        """


class Sessions(Protocol):
    """Sessions on one database."""

    @property
    def engine(self) -> Engine:
        """The engine of the sessions' connections."""

    def open(self) -> AbstractAsyncContextManager[Session]:
        """Open a session that has no other user during the block.

        Raises TimeoutError, of SQLAlchemy or Python, if all are taken for too long.
        """

    async def scrub(self) -> bool:
        """Overwrite what was deleted from a SQLite file, for about 2 s. Return whether everything was done."""


@asynccontextmanager
async def sessions(engine: AsyncEngine, *, cache_mib: int = 16) -> AsyncIterator[Sessions]:
    """Yield sessions on the database of `engine`, and close them at the end of the block. The caller disposes of the
    engine. With SQLite each session has a cache of `cache_mib`, and its temporary data in memory: call `sort_on_disk`
    before it sorts many rows."""
    if engine.dialect.name != "sqlite":
        yield _AsyncSessions(engine)
        return
    in_threads = create_engine(engine.url.set(drivername="sqlite"), poolclass=NullPool, hide_parameters=True)
    configure_sqlite(in_threads, cache_mib=cache_mib, temp_in_memory=True)
    threads = _ThreadSessions(in_threads)
    try:
        yield threads
    finally:
        threads.close()


@contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """Make every statement of the block see the same state of the database. It must be the first use of the
    transaction."""
    begin_snapshot(connection)
    try:
        yield
    finally:
        connection.rollback()


def begin_snapshot(connection: Connection) -> None:
    """Make every following statement of the transaction see the same state of the database. It must be the first use
    of the transaction."""
    if connection.dialect.name == "sqlite":
        # The driver opens a transaction for writes only: without this each SELECT could see a later state.
        connection.exec_driver_sql("BEGIN")
    else:
        connection.execution_options(isolation_level="REPEATABLE READ")


def sort_on_disk(connection: Connection) -> None:
    """Let SQLite sort in files from here on, in constant memory, and not in memory. No transaction may be open."""
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA temp_store=FILE")
        connection.rollback()


def allow_pauses(connection: Connection, seconds: float) -> None:
    """Let the transaction pause between two statements for so long, at most. SQLite has no such limit."""
    if connection.dialect.name != "sqlite":
        run(connection, f"SET LOCAL idle_in_transaction_session_timeout = {round(seconds * 1_000)}")


def attempt(connection: Connection, work: Callable[[Connection], object], *, is_last: bool = False) -> Exception | None:
    """Run `work` as a part of a transaction that has written. If it fails, undo its changes and return its error.

    `is_last` leaves the savepoint to the end of the transaction, if the work succeeds, and saves a statement. Raises
    the errors of a database that is unavailable.
    """
    run(connection, "SAVEPOINT attempt")
    failure: Exception | None = None
    try:
        work(connection)
    except DBAPIError as error:
        if is_outage(error):
            raise
        failure = error
    except Exception as error:
        failure = error
    if failure is not None:
        run(connection, "ROLLBACK TO SAVEPOINT attempt")
    if failure is not None or not is_last:
        run(connection, "RELEASE SAVEPOINT attempt")
    return failure


def _roll_back(connection: Connection) -> None:
    """Roll back a transaction of SQLite, also one whose commit failed, which SQLAlchemy leaves open in the driver."""
    connection.rollback()
    driver = connection.connection.driver_connection
    if driver is not None and driver.in_transaction:
        driver.rollback()


class ConnectionSession:
    """A session on the connection of an async driver."""

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
            yield ConnectionSession(connection)

    async def scrub(self) -> bool:
        """Do nothing: PostgreSQL's vacuum frees the space of deleted rows."""
        return True


class _ThreadSession:
    """A connection and its one thread, which runs all work in order."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._thread = SerialExecutor("sqlite")
        self._is_settled = True
        """True if certainly no transaction is open."""

    async def run(self, work: Callable[[Connection], _Result]) -> _Result:
        self._is_settled = False
        result, self._is_settled = await self._thread.run(partial(self._do, work))
        return result

    async def settle(self) -> None:
        """Roll back uncommitted work."""
        if not self._is_settled:
            await self.run(_roll_back)

    def close(self) -> None:
        """Close without waiting. An open transaction is rolled back when its work has ended."""
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
        self._scrubber = make_scrubber(engine)

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

    async def scrub(self) -> bool:
        return await self._scrubber.step()

    def close(self) -> None:
        for session in self._idle:
            session.close()
