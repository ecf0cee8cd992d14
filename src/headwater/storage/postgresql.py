"""PostgreSQL: its connections, the meaning of its errors, and checks whether a database is usable.

asyncpg reads the URL like libpq: TLS (`sslmode`, `sslrootcert`), unix sockets (`host`) and several hosts work as in
every other client of PostgreSQL. Messages never contain a password.
"""

import socket
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from sqlalchemy import event, func, select, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

MINIMUM_VERSION: Final = 14
"""The oldest release that the tests cover."""
STORE_CONNECTIONS: Final = 6
"""Maximum number of connections of one engine, opened on demand. The stores of a process share one engine."""
WAREHOUSE_CONNECTIONS: Final = 4
"""Maximum number of connections of a process to the warehouse. They are separate, because its reads may take long."""
KEPT_STORE_CONNECTIONS: Final = 4
KEPT_WAREHOUSE_CONNECTIONS: Final = 2
"""Number of connections that stay open when they are idle. Those of a peak are closed after their use."""
POOL_TIMEOUT_SECONDS: Final = 5.0
"""Time limit of waiting for a connection."""
RECYCLE_SECONDS: Final = 300
"""Maximum age of an idle connection, because firewalls silently drop older ones."""
CONNECT_TIMEOUT_SECONDS: Final = 5.0
LOCK_TIMEOUT_SECONDS: Final = 5.0
"""Time limit of waiting for another transaction's lock, as for a writer of SQLite."""
STATEMENT_TIMEOUT_SECONDS: Final = 30.0
IDLE_TRANSACTION_TIMEOUT_SECONDS: Final = 60.0
"""Time limit of an idle transaction. A hanging process may hold the lock that every change of the catalog takes."""
HUNG_SECONDS: Final = 3.0
"""Time after which a transaction that waits for its process counts as hung, if another process takes over."""
COMMAND_TIMEOUT_SECONDS: Final = 60.0
"""Time limit of any response, except in migrations. Without it, lost packets would block a process for ever."""
MIGRATION_LOCK_TIMEOUT_SECONDS: Final = 60.0
"""Time limit of a migration that waits for the locks of tables: calls that come meanwhile wait behind it."""


@dataclass(frozen=True)
class ProcessConnections:
    """The connections of a process to the database of an installation. Created by `open_connections`."""

    url: str
    _stores: AsyncEngine
    _warehouse: AsyncEngine

    def engine(self, schema: str) -> AsyncEngine:
        """Return the engine for the tables in `schema`. The caller does not dispose of it."""
        return self._warehouse if schema == WAREHOUSE_SCHEMA else self._stores


@asynccontextmanager
async def open_connections(
    url: str,
    process: str,
    *,
    store_connections: int = STORE_CONNECTIONS,
    warehouse_connections: int = WAREHOUSE_CONNECTIONS,
) -> AsyncIterator[ProcessConnections]:
    """Yield connections that all stores of a process share, and close them at the end of the block.

    PostgreSQL lists them as `headwater PROCESS`. There are at most `store_connections` + `warehouse_connections`.
    """
    stores = open_postgresql(
        url,
        ", ".join(STORE_SCHEMAS),
        process=process,
        max_connections=store_connections,
        kept_connections=KEPT_STORE_CONNECTIONS,
    )
    warehouse = open_postgresql(
        url,
        WAREHOUSE_SCHEMA,
        process=process,
        max_connections=warehouse_connections,
        kept_connections=KEPT_WAREHOUSE_CONNECTIONS,
    )
    try:
        yield ProcessConnections(url, stores, warehouse)
    finally:
        await stores.dispose()
        await warehouse.dispose()


def open_postgresql(
    url: str,
    search_path: str,
    *,
    process: str = "command",
    max_connections: int = STORE_CONNECTIONS,
    kept_connections: int = STORE_CONNECTIONS,
    command_timeout_seconds: float | None = COMMAND_TIMEOUT_SECONDS,
) -> AsyncEngine:
    """Return an engine whose tables are in the schemas of `search_path`, separated by commas.

    It connects at its first use, and the caller disposes of it. Of its connections `kept_connections` stay open when
    they are idle. Each response has a time limit unless `command_timeout_seconds` is None.
    """
    import asyncpg  # an installation on SQLite need not load it

    dsn = _dsn(url)
    settings = {
        "search_path": search_path,
        "application_name": f"headwater {process}",
        "timezone": "UTC",
        "default_transaction_isolation": "read committed",
        "statement_timeout": str(milliseconds(STATEMENT_TIMEOUT_SECONDS)),
        "lock_timeout": str(milliseconds(LOCK_TIMEOUT_SECONDS)),
        "idle_in_transaction_session_timeout": str(milliseconds(IDLE_TRANSACTION_TIMEOUT_SECONDS)),
    }

    async def connect() -> Any:
        return await asyncpg.connect(
            dsn, timeout=CONNECT_TIMEOUT_SECONDS, command_timeout=command_timeout_seconds, server_settings=settings
        )

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        hide_parameters=True,
        pool_size=min(kept_connections, max_connections),
        max_overflow=max(0, max_connections - kept_connections),
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_recycle=RECYCLE_SECONDS,
        pool_use_lifo=True,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def _is_open(connection: Any, _record: Any, _proxy: Any) -> None:
        # The driver knows without a query that the server closed the connection: the pool then opens another one.
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    return engine


def milliseconds(seconds: float) -> int:
    """Return a duration in the unit of the databases' settings."""
    return round(seconds * 1000)


async def check_usable(connection: AsyncConnection) -> str | None:
    """Return the reason why this database cannot be used, or None."""
    settings = ("server_version_num", "server_encoding", "transaction_read_only")
    query = select(*(func.current_setting(name) for name in settings))
    number, encoding, read_only = (await connection.execute(query)).one()
    version = int(number) // 10_000
    if version < MINIMUM_VERSION:
        return f"it is PostgreSQL {version}, and {MINIMUM_VERSION} or newer is needed"
    if encoding != "UTF8":
        return f"its encoding is {encoding}, and UTF8 is needed"
    if read_only == "on":
        return "it takes no writes: a standby, or read-only by its settings"
    return None


async def begin_migration(connection: AsyncConnection, schema: str, timeout_seconds: float) -> None:
    """Begin a transaction in `schema` that excludes other migrations of it, and create the schema if it is missing.

    `timeout_seconds` limits each statement, and the time that it waits for other migrations.
    """
    for setting in ("statement_timeout", "lock_timeout"):
        await connection.execute(text(f"SET LOCAL {setting} = {milliseconds(timeout_seconds)}"))
    await connection.execute(select(func.pg_advisory_xact_lock(zlib.crc32(schema.encode()))))
    await connection.execute(text(f"SET LOCAL lock_timeout = {milliseconds(MIGRATION_LOCK_TIMEOUT_SECONDS)}"))
    # Checked first, because creating a schema needs a privilege that the user may lack. Reading the table, unlike
    # to_regnamespace, also finds a schema that another process created while this one waited for the lock.
    found = text("SELECT count(*) FROM pg_catalog.pg_namespace WHERE nspname = :schema")
    if not (await connection.execute(found, {"schema": schema})).scalar_one():
        await connection.execute(text(f"CREATE SCHEMA {schema}"))
    await connection.execute(text(f"SET LOCAL search_path = {schema}"))


async def end_hung_transactions(connection: AsyncConnection) -> int:
    """End the transactions of hung processes of the same name; return their number.

    A suspended process, or one on a machine that failed, leaves its transaction open. No timeout of PostgreSQL ends a
    transaction that is in the middle of COPY, so its locks would stop every successor.
    """
    return int((await connection.execute(_END_HUNG, {"seconds": HUNG_SECONDS})).scalar_one())


_END_HUNG: Final = text("""
    SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE datname = current_database() AND usename = current_user AND pid <> pg_backend_pid()
    AND application_name = current_setting('application_name') AND xact_start IS NOT NULL
    AND wait_event_type = 'Client' AND state_change < clock_timestamp() - make_interval(secs => :seconds)
""")


def read_sqlstate(error: BaseException) -> str | None:
    """Return PostgreSQL's error code (SQLSTATE, five characters); None for an error from elsewhere."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(origin, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_outage(error: BaseException) -> bool:
    """Return whether the database caused the error and not the statement: the same may succeed later."""
    state = read_sqlstate(error)
    if state is None:
        return isinstance(error, DBAPIError) and (error.connection_invalidated or _found_no_primary(error))
    return state[:2] in _OUTAGE_CLASSES or state in _OUTAGES


def _found_no_primary(error: DBAPIError) -> bool:
    """Return whether no host of the URL fits `target_session_attrs`, as during a failover."""
    cause = None if error.orig is None else error.orig.__cause__
    return type(cause).__name__ == "TargetServerAttributeNotMatched"


_OUTAGE_CLASSES: Final = frozenset({"08", "28", "40", "53", "57", "58"})
"""Classes of codes: connection, authorization, rollback (deadlock), resources, operator intervention, system."""
_OUTAGES: Final = frozenset({"55P03", "25P03", "25006", "3D000", "42501"})
"""Lock not available, idle in transaction, read-only (a standby after a failover), missing database or privileges."""


def explain(error: BaseException, url: str) -> str | None:
    """Return one line with the reason why the database at `url` cannot be used; None for any other error."""
    parts = urlsplit(url)
    state = read_sqlstate(error)
    words = str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0]
    words = words.rpartition(">: ")[2]  # SQLAlchemy puts the class of the error first
    if parts.password:
        words = words.replace(unquote(parts.password), "***")
    if state in ("28P01", "28000"):
        return f"it rejects the user or the password ({words})"
    if state == "3D000":
        return "there is no such database: make it first (CREATE DATABASE)"
    if state == "42501":
        return f"the user may not do what is needed ({words}): let it create schemas, or own {' and '.join(SCHEMAS)}"
    if state is not None:
        return words
    match error:
        case socket.gaierror():
            return "its host name is not known"
        case FileNotFoundError() if any(name in parts.query for name in ("sslrootcert", "sslcert", "sslkey", "sslcrl")):
            return "a file that its TLS parameters name does not exist"
        case ConnectionRefusedError() | FileNotFoundError():
            return "nothing listens there"
        case ssl.SSLError():
            return f"TLS failed ({words})"
        case TimeoutError():
            return f"it did not respond within {CONNECT_TIMEOUT_SECONDS:.0f} seconds"
        case OSError() | DBAPIError() | ValueError():
            return words or type(error).__name__
    return None


STORE_SCHEMAS: Final = ("catalog", "state", "courier", "delivery", "operations", "runs")
"""The schemas of the stores that share connections. No two of them have tables of the same name."""
WAREHOUSE_SCHEMA: Final = "warehouse"
SCHEMAS: Final = (*STORE_SCHEMAS, WAREHOUSE_SCHEMA)
"""The schemas of one installation. Each is migrated separately."""


def describe_url(url: str) -> str:
    """Return the database of `url` for messages, without password and parameters."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2] or dict(parse_qsl(parts.query)).get("host", "")
    return f"PostgreSQL database {unquote(parts.path).lstrip('/')!r} at {place}"


def _dsn(url: str) -> str:
    """Return `url` in asyncpg's form. SQLAlchemy's name of `sslmode` is `ssl`."""
    parts = urlsplit(url)
    query = [("sslmode" if name == "ssl" else name, value) for name, value in parse_qsl(parts.query)]
    return urlunsplit(SplitResult("postgresql", parts.netloc, parts.path, urlencode(query), ""))
