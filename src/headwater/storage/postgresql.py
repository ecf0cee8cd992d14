"""PostgreSQL: how its connections are made, what its failures mean, and whether a database can be used at all.

The URL is libpq's, read by asyncpg: TLS (`sslmode`, `sslrootcert`), unix sockets (`host`) and several hosts are written
as every other program of PostgreSQL takes them. A password never appears in a message.
"""

import socket
import ssl
import zlib
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit, urlunsplit

from sqlalchemy import event, func, select, text
from sqlalchemy.exc import DBAPIError, DisconnectionError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

MINIMUM_VERSION: Final = 14
"""The oldest release that the tests' figures and revisions are meant for."""
POOL_SIZE: Final = 6
"""Connections of one engine, made when needed. Two or three engines in each of three processes rarely need a third of
the usual 100."""
POOL_TIMEOUT_SECONDS: Final = 5.0
"""How long a call waits for one of them."""
RECYCLE_SECONDS: Final = 300
"""An idle connection is replaced at this age: firewalls forget those that are older without telling."""
CONNECT_TIMEOUT_SECONDS: Final = 5.0
LOCK_TIMEOUT_MS: Final = 5_000
"""How long a statement waits for another transaction's lock, as long as a writer of SQLite does."""
STATEMENT_TIMEOUT_MS: Final = 30_000
IDLE_TRANSACTION_TIMEOUT_MS: Final = 60_000
"""A process that hangs within a transaction loses it: it may hold the lock that every change of the catalog takes."""
COMMAND_TIMEOUT_SECONDS: Final = 60.0
"""How long any answer may take, a revision's included. Without it a network that swallows packets holds us for ever."""


def open_postgresql(url: str, schema: str) -> AsyncEngine:
    """An engine whose tables live in `schema`. It connects at its first use; the caller disposes of it."""
    import asyncpg  # an installation on SQLite need not load it

    dsn = _dsn(url)
    settings = {
        "search_path": schema,
        "application_name": f"headwater {schema}",
        "timezone": "UTC",
        "default_transaction_isolation": "read committed",
        "statement_timeout": str(STATEMENT_TIMEOUT_MS),
        "lock_timeout": str(LOCK_TIMEOUT_MS),
        "idle_in_transaction_session_timeout": str(IDLE_TRANSACTION_TIMEOUT_MS),
    }

    async def connect() -> Any:
        return await asyncpg.connect(
            dsn, timeout=CONNECT_TIMEOUT_SECONDS, command_timeout=COMMAND_TIMEOUT_SECONDS, server_settings=settings
        )

    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=connect,
        hide_parameters=True,
        pool_size=POOL_SIZE,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_SECONDS,
        pool_recycle=RECYCLE_SECONDS,
        pool_use_lifo=True,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def _is_open(connection: Any, _record: Any, _proxy: Any) -> None:
        # The driver knows without asking when the server has gone: the pool then makes another connection.
        if connection.driver_connection.is_closed():
            raise DisconnectionError

    return engine


async def check_usable(connection: AsyncConnection) -> str | None:
    """Why this database cannot be used, or None."""
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


async def begin_migration(connection: AsyncConnection, schema: str, timeout_ms: int) -> None:
    """Begin a transaction that no other migration of `schema` runs beside. The schema is there afterwards."""
    for setting in ("statement_timeout", "lock_timeout"):
        await connection.execute(text(f"SET LOCAL {setting} = {timeout_ms}"))
    await connection.execute(select(func.pg_advisory_xact_lock(zlib.crc32(schema.encode()))))
    # Asked first, since making one needs a right that not everybody has whose schemas were made by somebody else.
    if (await connection.execute(select(func.to_regnamespace(schema)))).scalar_one() is None:
        await connection.execute(text(f"CREATE SCHEMA {schema}"))


def sqlstate_of(error: BaseException) -> str | None:
    """The five characters by which PostgreSQL names an error; None where it was not PostgreSQL that spoke."""
    origin = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(origin, "sqlstate", None)
    return state if isinstance(state, str) else None


def is_outage(error: BaseException) -> bool:
    """Whether the database, and not what was asked of it, is to blame: the same may succeed later."""
    state = sqlstate_of(error)
    if state is None:
        return isinstance(error, DBAPIError) and (error.connection_invalidated or _found_no_primary(error))
    return state[:2] in _OUTAGE_CLASSES or state in _OUTAGES


def _found_no_primary(error: DBAPIError) -> bool:
    """Whether none of the URL's hosts is what `target_session_attrs` wants, as during a failover."""
    cause = None if error.orig is None else error.orig.__cause__
    return type(cause).__name__ == "TargetServerAttributeNotMatched"


_OUTAGE_CLASSES: Final = frozenset({"08", "28", "40", "53", "57", "58"})
"""Connection, authorization, rollback (deadlock), resources, operator intervention (timeouts, shutdown), system."""
_OUTAGES: Final = frozenset({"55P03", "25P03", "25006", "3D000", "42501"})
"""Lock not available, idle in transaction, read-only (a standby after a failover), database or rights taken away."""


def explain(error: BaseException, url: str) -> str | None:
    """Why no work with the database at `url` can begin, in one line; None for what is no failure of a database."""
    parts = urlsplit(url)
    state = sqlstate_of(error)
    words = str(error.orig if isinstance(error, DBAPIError) else error).strip().partition("\n")[0]
    words = words.rpartition(">: ")[2]  # SQLAlchemy puts the class of the error first
    if parts.password:
        words = words.replace(unquote(parts.password), "***")
    if state in ("28P01", "28000"):
        return f"it refuses the user or the password ({words})"
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
            return f"it did not answer within {CONNECT_TIMEOUT_SECONDS:.0f} seconds"
        case OSError() | DBAPIError() | ValueError():
            return words or type(error).__name__
    return None


SCHEMAS: Final = ("catalog", "state", "warehouse", "courier")
"""The schemas of one installation, each brought up to date on its own."""


def described(url: str) -> str:
    """The database of `url` as a message may name it: without password and parameters."""
    parts = urlsplit(url)
    place = parts.netloc.rpartition("@")[2] or dict(parse_qsl(parts.query)).get("host", "")
    return f"PostgreSQL database {unquote(parts.path).lstrip('/')!r} at {place}"


def _dsn(url: str) -> str:
    """`url` as asyncpg reads it. SQLAlchemy's spelling of `sslmode` is `ssl`."""
    parts = urlsplit(url)
    query = [("sslmode" if name == "ssl" else name, value) for name, value in parse_qsl(parts.query)]
    return urlunsplit(SplitResult("postgresql", parts.netloc, parts.path, urlencode(query), ""))
