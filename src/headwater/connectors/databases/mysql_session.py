"""Connections to MySQL and MariaDB: guarded addresses, waits with limits, and errors in the words of the contract."""

import socket
import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final

import pymysql
from pymysql.constants import CR
from pymysql.cursors import SSCursor

from headwater.base.errors import HeadwaterError, Unavailable, Unprocessable
from headwater.connectors.catalogue.databases import MySQLSettings
from headwater.connectors.contract import ConnectorContext, QueryRejected
from headwater.connectors.databases.limits import CONNECT_SECONDS, MAX_ADDRESSES, MAX_VALUE_BYTES, WAIT_SECONDS
from headwater.connectors.databases.tls import make_context
from headwater.connectors.resolving import resolve_allowed

_SQL_MODE: Final = "STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION"
_SETTINGS: Final = frozenset({1044, 1045, 1049, 1130, 1251, 1698, 1820, 1862, 4151})
"""Errors of a login that the settings cause: access denied, unknown database, host or plugin not allowed, expired."""
_OUTSIDE: Final = frozenset(
    {1021, 1037, 1038, 1040, 1041, 1053, 1077, 1080, 1114, 1129, 1152, 1153, 1158, 1159, 1160, 1161, 1184, 1203, 1205}
    | {1213, 1226, 1290, 1317, 1836, 1927, 1969, 3024, 3572}
)
"""Errors for which the statement is not at fault: resources, shutdown, locks, time limits, a read-only server."""
_READ_ONLY: Final = 1792
_FAILURES: Final = (
    *(pymysql.Error, OSError, struct.error),
    *(ValueError, LookupError, TypeError, RuntimeError, AssertionError),
)
"""The errors of the driver, with those for a server that does not keep to the protocol."""


class _Driver(pymysql.Connection):
    """Refuses packets, and so rows, that are larger than a value may be."""

    _size = 0

    def _read_packet(self, *arguments: Any) -> Any:
        self._size = 0
        driver: Any = super()
        return driver._read_packet(*arguments)

    def _read_bytes(self, size: int) -> Any:
        driver: Any = super()
        self._size += size
        if self._size > MAX_VALUE_BYTES:
            driver._force_close()
            raise pymysql.ProgrammingError(CR.CR_NET_PACKET_TOO_LARGE, f"a row has more than {MAX_VALUE_BYTES:,} bytes")
        return driver._read_bytes(size)


class Session:
    """One connection. `end` may be called from any thread."""

    def __init__(self, settings: MySQLSettings, context: ConnectorContext, *, is_read_only: bool) -> None:
        self._settings = settings
        self._context = context
        self._is_ended = False
        self._lock = threading.Lock()
        self.is_running = False
        self._cursor: Any = None
        self.connection, self._socket = _connect(settings, context)
        mode = "READ ONLY" if is_read_only else "READ WRITE"
        try:
            with self.errors(), _in_time(self._socket):
                self.execute(
                    f"SET SESSION time_zone = '+00:00', sql_mode = '{_SQL_MODE}', "
                    f"net_write_timeout = {WAIT_SECONDS:.0f}, lock_wait_timeout = {CONNECT_SECONDS:.0f}"
                )
                self.execute(f"SET SESSION TRANSACTION {mode}")
                if is_read_only:
                    self.execute("START TRANSACTION READ ONLY")
        except BaseException:
            self.close()
            raise

    def execute(self, statement: str, values: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement of this module, and return its rows."""
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)
            return list(cursor.fetchall())

    def open_result(self, statement: str) -> Any:
        """Run a query, and return the driver's result, whose rows are not read yet; None if it returns no columns."""
        self._cursor = SSCursor(self.connection)
        self.is_running = True
        with self.errors():
            self._cursor.execute(statement)
        return None if self._cursor.description is None else self._cursor._result

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Translate the errors of the driver. Raises QueryRejected and Unavailable."""
        try:
            yield
        except _FAILURES as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> HeadwaterError:
        if self._is_ended:
            return Unavailable("the connection to the database was closed")
        code, message = describe_failure(error)
        message = self._context.redact(message)
        if isinstance(error, TimeoutError) or "timed out" in message:
            self.end()
            return Unavailable(f"the database did not respond within {WAIT_SECONDS:g} seconds")
        if code == CR.CR_NET_PACKET_TOO_LARGE:
            return QueryRejected(f"the rows of the query are too large: {message}")
        if not isinstance(error, pymysql.Error) or code == 0 or 2000 <= code < 3000 or code in _OUTSIDE:
            return Unavailable(f"the database failed: {message}")
        if code == _READ_ONLY:
            return QueryRejected(f"the query may only read: {message}")
        return QueryRejected(f"the database rejects the statement: {message}")

    def end(self) -> None:
        """Kill a running statement, and end the connection."""
        with self._lock:
            if self._is_ended:
                return
            self._is_ended = True
        driver: Any = self.connection
        number, is_running = driver.thread_id(), self.is_running
        _shut(self._socket)
        if is_running:
            with suppress(pymysql.Error, OSError, HeadwaterError):
                other, _ = _connect(self._settings, self._context)
                with suppress(pymysql.Error, OSError):
                    other.query(f"KILL {number}")
                _discard(other)

    def close(self) -> None:
        """Close the connection; a statement that runs is killed."""
        if self.is_running:
            self.end()
        if self._cursor is not None:
            # Else the driver would read the rest of the rows, when the objects are deleted.
            if self._cursor._result is not None:
                self._cursor._result.unbuffered_active = False
            self._cursor.connection = None
        _discard(self.connection)


def describe_failure(error: Exception) -> tuple[int, str]:
    """Return the code and the message of an error."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    message = str(error.args[1]) if len(error.args) > 1 else str(error) or type(error).__name__
    return code, message


def _connect(settings: MySQLSettings, context: ConnectorContext) -> tuple["pymysql.Connection[Any]", socket.socket]:
    """Connect to a checked address. Raises Unavailable, and Unprocessable with InvalidSettings."""
    addresses = resolve_allowed(settings.host, settings.port, context.addresses, workspace=context.workspace)
    failure: Exception | None = None
    for address in addresses[:MAX_ADDRESSES]:
        try:
            plain = socket.create_connection((address, settings.port), CONNECT_SECONDS)
        except OSError as error:
            failure = error
            continue
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        try:
            with _in_time(plain):
                return _log_in(settings, plain), plain
        except _FAILURES as error:
            plain.close()
            code, message = describe_failure(error)
            if code in _SETTINGS:
                refusal = f"the database refuses the connection: {context.redact(message)}"
                raise Unprocessable("InvalidSettings", refusal, field="settings") from error
            failure = error
    assert failure is not None
    raise Unavailable(f"the database cannot be reached: {context.redact(describe_failure(failure)[1])}") from failure


@contextmanager
def _in_time(plain: socket.socket) -> Iterator[None]:
    """End a connection that takes too long to log in. Each read has a limit, but a server may send byte after byte."""
    timer = threading.Timer(CONNECT_SECONDS, partial(_shut, plain))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _shut(plain: socket.socket) -> None:
    with suppress(OSError):
        plain.shutdown(socket.SHUT_RDWR)


def _discard(connection: "pymysql.Connection[Any]") -> None:
    """Close a connection without a word to the server, which may not listen."""
    driver: Any = connection
    reader = driver._rfile
    driver._force_close()
    if reader is not None:
        with suppress(OSError, ValueError):
            reader.close()


def _log_in(settings: MySQLSettings, plain: socket.socket) -> "pymysql.Connection[Any]":
    encryption: dict[str, Any] = {}  # preferred
    if settings.tls == "Off":
        encryption = {"ssl_disabled": True}
    elif settings.tls != "Preferred":
        encryption = {"ssl": make_context(is_verified=settings.tls == "Verified")}
    connection = _Driver(
        host=settings.host,
        port=settings.port,
        user=settings.username,
        password=settings.password,
        database=settings.database,
        charset="utf8mb4",
        connect_timeout=int(CONNECT_SECONDS),
        read_timeout=WAIT_SECONDS,
        write_timeout=WAIT_SECONDS,
        local_infile=False,
        program_name="headwater",
        autocommit=True,
        defer_connect=True,
        **encryption,
    )
    connection.connect(plain)
    return connection
