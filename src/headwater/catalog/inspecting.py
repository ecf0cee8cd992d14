"""Reads the encrypted records and the connectors of a catalog without opening it, which would migrate it."""

from collections import Counter

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.catalog.tables import connections, oauth_accounts


async def read_sealed_records(engine: AsyncEngine) -> dict[str, bytes]:
    """Return the encrypted settings and tokens, each by the name of its owner for messages."""
    found: dict[str, bytes] = {}
    async with engine.connect() as connection:
        settings = select(connections.c.id, connections.c.sealed_settings)
        for id_, sealed in await connection.execute(settings.where(connections.c.sealed_settings.is_not(None))):
            found[f"the settings of connection {id_}"] = sealed
        for id_, sealed in await connection.execute(select(oauth_accounts.c.id, oauth_accounts.c.sealed_tokens)):
            found[f"the tokens of OAuth account {id_}"] = sealed
    return found


async def read_used_connectors(engine: AsyncEngine) -> Counter[str]:
    """Return the number of connections by the code of their connector."""
    counts = select(connections.c.connector, func.count().label("connections")).group_by(connections.c.connector)
    async with engine.connect() as connection:
        return Counter({row.connector: row.connections for row in await connection.execute(counts)})
