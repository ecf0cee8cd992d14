"""Lets the leases of runs and operations expire. On PostgreSQL they follow the time of the database, not a test's."""

from sqlalchemy import Table, update

from headwater.storage.database import open_engine


async def age_leases(url: str, table: Table, schema: str, seconds: float) -> None:
    """Make the leases in a table end earlier."""
    engine = open_engine(url, schema=schema)
    try:
        async with engine.begin() as connection:
            held = update(table).where(table.c.lease_until > 0)
            await connection.execute(held.values(lease_until=table.c.lease_until - int(seconds * 1e6)))
    finally:
        await engine.dispose()
