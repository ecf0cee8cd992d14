"""Connections to PostgreSQL: guarded addresses, waits with limits, and errors in the words of the contract.

libpq is used without its own waiting, so that every wait has a limit and another thread can end it.
"""

import os
import re
import select
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Final

import psycopg
from psycopg import Connection, errors, pq

from headwater.base.errors import HeadwaterError, Unavailable, Unprocessable
from headwater.connectors.catalogue.databases import PostgreSQLSettings
from headwater.connectors.contract import ConnectorContext, QueryRejected
from headwater.connectors.databases.limits import CONNECT_SECONDS, MAX_ADDRESSES, MAX_VALUE_BYTES, WAIT_SECONDS
from headwater.connectors.databases.postgresql_types import TypeDescription, register_loaders
from headwater.connectors.databases.quoting import quote
from headwater.connectors.databases.sessions import connection_closed
from headwater.connectors.databases.tls import find_authorities
from headwater.connectors.resolving import resolve_allowed

CANCEL_SECONDS: Final = 5.0

_RECEIVED_AT: Final = 128
"""The position of `tcpi_bytes_received` in the counters of a connection on Linux."""

_TLS: Final[Mapping[str, str]] = {
    "Off": "disable",
    "Preferred": "prefer",
    "Required": "require",
    "Verified": "verify-full",
}
_BUSY: Final = re.compile("too many|starting up|shutting down|recovery|remaining connection slots|not accepting")
_OUTSIDE: Final = frozenset({"08", "40", "53", "57", "58", "XX"})
"""Classes of SQLSTATE for which the query is not at fault: connection, conflict, resources, operator, system."""

_TYPES: Final = """
SELECT t.oid::int8, t.typname::text, t.typtype::text, t.oid < 16384, coalesce(e.oid, 0)::int8,
  (SELECT array_agg(enumlabel::text ORDER BY enumsortorder) FROM pg_catalog.pg_enum WHERE enumtypid = t.oid)
FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_type e ON e.typarray = t.oid
WHERE t.oid = ANY(%s::oid[]) OR t.typarray = ANY(%s::oid[])"""


class Session:
    """One connection. `end` may be called from any thread; everything else from one thread at a time."""

    def __init__(self, settings: PostgreSQLSettings, context: ConnectorContext, *, is_read_only: bool) -> None:
        """Connect. Raises Unavailable, and Unprocessable with InvalidSettings if the server refuses the settings."""
        self._context = context
        self._is_ended = False
        self._is_late = False
        self._is_running = False
        self._lock = threading.Lock()
        self.connection = _connect(settings, context)
        self._socket = socket.socket(fileno=os.dup(self.connection.fileno()))
        try:
            register_loaders(self.connection)
            with self.errors(CONNECT_SECONDS):
                self.connection.execute(
                    "SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET standard_conforming_strings = on; "
                    f"SET extra_float_digits = 1; SET search_path = {quote(settings.schema)}; "
                    f"SET default_transaction_read_only = {'on' if is_read_only else 'off'}; "
                    f"SET lock_timeout = '{CONNECT_SECONDS:g}s'"
                )
        except BaseException:
            self.close()
            raise

    @contextmanager
    def errors(self, seconds: float = WAIT_SECONDS) -> Iterator[None]:
        """Translate the errors of statements that psycopg waits for, and end the connection after a time.

        psycopg waits without a limit. Raises QueryRejected and Unavailable.
        """
        timer = threading.Timer(seconds, self._expire)
        timer.daemon = True
        timer.start()
        try:
            with self._translating(seconds):
                yield
        finally:
            timer.cancel()

    def _expire(self) -> None:
        self._is_late = True
        self.end()

    @contextmanager
    def _translating(self, seconds: float) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self.translated(error, seconds) from error

    def translated(self, error: psycopg.Error, seconds: float = WAIT_SECONDS) -> HeadwaterError:
        """Return the error of the contract; `seconds` is the time limit of the statement."""
        if self._is_late:
            return Unavailable(f"the database did not respond within {seconds:g} seconds")
        if self._is_ended:
            return connection_closed()
        state, message = error.sqlstate, self._context.redact(_message(error))
        if isinstance(error, errors.QueryCanceled):
            return Unavailable(f"the database did not respond within {seconds:g} seconds: {message}")
        if state is None or state[:2] in _OUTSIDE:
            return Unavailable(f"the database failed: {message}")
        return QueryRejected(f"the database rejects the statement: {message}")

    def types(self, used: Iterable[int]) -> dict[int, TypeDescription]:
        """Return the descriptions of types, and of their elements, by number."""
        oids = list(set(used))
        with self.errors():
            found = self.connection.execute(_TYPES, (oids, oids)).fetchall()
        return {
            oid: TypeDescription(
                name=name, kind=kind, is_builtin=is_builtin, element=element, labels=tuple(labels or ())
            )
            for oid, name, kind, is_builtin, element, labels in found
        }

    def results(self, send: Callable[[pq.abc.PGconn], None], seconds: float) -> Iterator[pq.abc.PGresult]:
        """Send a command and yield its results, each of which must come within a time. Raises QueryRejected and
        Unavailable."""
        pgconn = self.connection.pgconn
        with self._translating(seconds):
            self._is_running = True
            send(pgconn)
            while (result := self._next(pgconn, seconds)) is not None:
                if result.status == pq.ExecStatus.FATAL_ERROR:
                    error = errors.error_from_result(result)
                    while self._next(pgconn, seconds) is not None:
                        pass
                    raise error
                yield result
            self._is_running = False

    def _next(self, pgconn: pq.abc.PGconn, seconds: float) -> pq.abc.PGresult | None:
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN)
        before = self._received()
        while (is_unsent := bool(pgconn.flush())) or pgconn.is_busy():
            poll.modify(pgconn.socket, select.POLLIN | select.POLLOUT if is_unsent else select.POLLIN)
            if not poll.poll(seconds * 1_000):
                self.end()
                raise Unavailable(f"the database did not respond within {seconds:g} seconds")
            pgconn.consume_input()
            if self._received() - before > MAX_VALUE_BYTES:
                self.end()
                raise QueryRejected(f"a few rows of the query have more than {MAX_VALUE_BYTES:,} bytes")
        return pgconn.get_result()

    def _received(self) -> int:
        """Return the bytes that the connection has received, which libpq keeps until a result is complete; 0 on systems
        that do not count them."""
        if sys.platform != "linux":
            return 0
        counters = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _RECEIVED_AT + 8)
        return int.from_bytes(counters[_RECEIVED_AT:], sys.byteorder)

    def end(self) -> None:
        """Cancel a running statement, and close the connection at the next use by its thread."""
        with self._lock:
            if self._is_ended:
                return
            self._is_ended = True
            if self._is_running or self.connection.pgconn.transaction_status == pq.TransactionStatus.ACTIVE:
                with suppress(psycopg.Error, NotImplementedError):
                    self.connection.cancel_safe(timeout=CANCEL_SECONDS)
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cancel a running statement and close the connection."""
        if self._is_running:
            self.end()
        self.connection.close()
        self._socket.close()


def _connect(settings: PostgreSQLSettings, context: ConnectorContext) -> Connection[Any]:
    addresses = resolve_allowed(settings.host, settings.port, context.addresses, workspace=context.workspace)
    failure: psycopg.Error | None = None
    for address in addresses[:MAX_ADDRESSES]:
        try:
            return psycopg.connect(
                host=settings.host,
                hostaddr=address,
                port=settings.port,
                user=settings.username,
                password=settings.password,
                # Nothing of the operator's: password, client certificate and variables such as PGOPTIONS.
                passfile="/dev/null",
                sslcertmode="disable",
                options="",
                target_session_attrs="any",
                dbname=settings.database,
                sslmode=_TLS[settings.tls],
                sslrootcert=find_authorities() if settings.tls == "Verified" else None,
                gssencmode="disable",
                connect_timeout=int(CONNECT_SECONDS),
                tcp_user_timeout=30_000,
                keepalives_idle=30,
                client_encoding="UTF8",
                application_name="headwater",
                autocommit=True,
                prepare_threshold=None,
            )
        except psycopg.Error as error:
            failure = error
    assert failure is not None
    message = context.redact(str(failure).strip())
    if "FATAL:" in message and not _BUSY.search(message):
        reason = _first_line(message.rpartition("FATAL:")[2])
        raise Unprocessable("InvalidSettings", f"the database refuses the connection: {reason}", field="settings")
    raise Unavailable(f"the database cannot be reached: {_first_line(message)}")


def _message(error: psycopg.Error) -> str:
    parts: Sequence[str | None] = (error.diag.message_primary, error.diag.message_hint)
    return "; ".join(part for part in parts if part) or _first_line(str(error)) or type(error).__name__


def _first_line(message: str) -> str:
    """Return the first line. The client library adds others to lost and refused connections, with possible causes."""
    return message.strip().partition("\n")[0].removeprefix("consuming input failed: ")
