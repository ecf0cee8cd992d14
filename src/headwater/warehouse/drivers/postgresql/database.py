"""Connections to the warehouse's PostgreSQL: asyncpg's, which can COPY, from the engine's pool."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import asyncpg
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.base.errors import Unavailable
from headwater.storage.database import as_unavailable
from headwater.storage.postgresql import is_outage, milliseconds

if TYPE_CHECKING:
    Driver: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Driver = asyncpg.Connection

READ_TIMEOUT_SECONDS: Final = 10.0
"""Maximum duration of one statement of a read."""
_WHAT: Final = "the warehouse's database"


class Database:
    """The warehouse's database. The caller disposes of the engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Driver]:
        """Take a connection for the time of a block.

        Raise Unavailable when the database is unavailable, is busy for too long, or fails during the block.
        """
        async with as_unavailable(_WHAT), self._engine.connect() as connection:
            driver = cast(Driver, (await connection.get_raw_connection()).driver_connection)
            try:
                yield driver
            except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
                if is_outage(error) or driver.is_closed():
                    raise Unavailable(f"{_WHAT} does not respond") from error
                raise
            finally:
                if driver.is_in_transaction():  # its end was interrupted: do not let the pool give it to another caller
                    driver.terminate()

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Driver]:
        """Read one state of the database for the time of a block.

        PostgreSQL plans each statement for its values, because a name may occur in every event or in one of a million.
        """
        async with self.connect() as driver, driver.transaction(isolation="repeatable_read", readonly=True):
            await driver.execute(
                f"SET LOCAL statement_timeout = {milliseconds(READ_TIMEOUT_SECONDS)}; "
                "SET LOCAL plan_cache_mode = force_custom_plan"
            )
            yield driver


class Parameters(list[Any]):
    """The values of a statement in the order of its placeholders."""

    def add(self, value: object) -> str:
        """Add a value and return its placeholder."""
        self.append(value)
        return f"${len(self)}"
