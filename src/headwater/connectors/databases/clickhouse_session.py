"""Connections to ClickHouse: guarded addresses, an end from any thread, and errors in the words of the contract."""

import os
import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import clickhouse_connect
import urllib3
from clickhouse_connect import common
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from urllib3.connection import HTTPConnection, HTTPSConnection

from headwater.base.errors import HeadwaterError, Unavailable, Unprocessable
from headwater.connectors.catalogue.databases import ClickHouseSettings
from headwater.connectors.contract import ConnectorContext, QueryRejected
from headwater.connectors.databases.limits import CONNECT_SECONDS, MAX_ADDRESSES, WAIT_SECONDS
from headwater.connectors.resolving import resolve_allowed

_TLS_PORTS: Final = frozenset({443, 8443})
_HTTP_PORTS: Final = frozenset({80, 443})
_CODE: Final = re.compile(r"Code: (\d+)")
_SETTINGS: Final = frozenset({81, 192, 193, 194, 516})
"""Unknown database, unknown user, wrong password, password required, authentication failed."""
_OUTSIDE: Final = frozenset(
    {159, 160, 202, 203, 209, 210, 236, 241, 242, 243, 252, 279, 319, 394, 425, 439, 473, 667, 999}
)
"""Errors for which the statement is not at fault: time limits, memory, disk, network, replicas, a cancel."""

FAILURES: Final = (ClickHouseError, urllib3.exceptions.HTTPError, OSError)
"""The errors of the driver for a statement."""

Connect = Callable[[ClickHouseSettings, ConnectorContext], Client]


def connect(settings: ClickHouseSettings, context: ConnectorContext) -> Client:
    """Connect to a checked address. Raises Unavailable, and Unprocessable with InvalidSettings."""
    addresses = resolve_allowed(
        settings.host, settings.port, context.addresses, workspace=context.workspace, ports=_HTTP_PORTS
    )
    is_encrypted = settings.tls in ("Required", "Verified") or (
        settings.tls == "Preferred" and settings.port in _TLS_PORTS
    )
    common.set_setting("autogenerate_session_id", False)  # statements of one connection may overlap
    failure: Exception | None = None
    for address in addresses[:MAX_ADDRESSES]:
        pool = _make_pool(settings, is_encrypted=is_encrypted)
        timer = threading.Timer(CONNECT_SECONDS, pool.end)
        timer.daemon = True
        timer.start()
        try:
            return clickhouse_connect.get_client(
                interface="https" if is_encrypted else "http",
                host=address,
                port=settings.port,
                username=settings.username or "default",
                password=settings.password,
                database=settings.database or "default",
                connect_timeout=int(CONNECT_SECONDS),
                send_receive_timeout=int(WAIT_SECONDS),
                pool_mgr=pool,
                server_host_name=settings.host,
                query_retries=0,
                client_name="headwater",
                show_clickhouse_errors="scrub",
            )
        except ClickHouseError as error:
            if error_code(error) in _SETTINGS:
                message = f"the database refuses the connection: {_message(error, context)}"
                raise Unprocessable("InvalidSettings", message, field="settings") from error
            failure = error
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            failure = error
        finally:
            timer.cancel()
    assert failure is not None
    raise Unavailable(f"the database cannot be reached: {_message(failure, context)}") from failure


class _Pool(urllib3.PoolManager):
    """Connections that follow no redirects: a server would choose an address that is not checked.

    `end` may be called from any thread: requests that wait for the server then fail.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._opened: list[socket.socket] = []
        self._is_ended = False
        remember = self._remember

        class Http(HTTPConnection):
            def _new_conn(self) -> socket.socket:
                return remember(super()._new_conn())

        class Https(HTTPSConnection):
            def _new_conn(self) -> socket.socket:
                return remember(super()._new_conn())

        class HttpPool(urllib3.HTTPConnectionPool):
            ConnectionCls = Http

        class HttpsPool(urllib3.HTTPSConnectionPool):
            ConnectionCls = Https

        self.pool_classes_by_scheme = {"http": HttpPool, "https": HttpsPool}

    def _remember(self, opened: socket.socket) -> socket.socket:
        self._opened.append(socket.socket(fileno=os.dup(opened.fileno())))
        if self._is_ended:  # the driver tries again
            opened.close()
            self.end()
            raise ConnectionAbortedError("the connection was ended")
        return opened

    def end(self) -> None:
        self._is_ended = True
        while self._opened:
            with suppress(OSError), self._opened.pop() as copy:
                copy.shutdown(socket.SHUT_RDWR)

    def urlopen(  # type: ignore[override]  # as in the base class
        self, method: str, url: str, redirect: bool = True, **options: Any
    ) -> Any:
        return super().urlopen(method, url, redirect=False, **options)


def end_client(client: Client) -> None:
    """End the connections of a client; an embedded engine has none."""
    pool = getattr(client, "http", None)
    if isinstance(pool, _Pool):
        pool.end()
    client.close()


def kill(client: Client, id_: str) -> None:
    """End a query on the server, then the connection: a server may not listen."""
    pool = getattr(client, "http", None)
    timer = threading.Timer(CONNECT_SECONDS, pool.end if isinstance(pool, _Pool) else int)
    timer.daemon = True
    timer.start()
    try:
        client.command(f"KILL QUERY WHERE query_id = '{id_}' ASYNC")
    finally:
        timer.cancel()
        if isinstance(pool, _Pool):
            pool.end()


def _make_pool(settings: ClickHouseSettings, *, is_encrypted: bool) -> _Pool:
    """Return a pool that uses no proxy, and for TLS the name of the host, because it connects to an address."""
    if not is_encrypted:
        return _Pool(retries=False)
    is_verified = settings.tls == "Verified"
    return _Pool(
        retries=False,
        cert_reqs="CERT_REQUIRED" if is_verified else "CERT_NONE",
        server_hostname=settings.host,
        assert_hostname=settings.host if is_verified else False,
    )


def error_code(error: Exception) -> int:
    """Return the number of an error of the server; 0 for other errors."""
    match = _CODE.search(str(error))
    return int(match[1]) if match is not None else 0


def _message(error: Exception, context: ConnectorContext) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return context.redact(text[:500])


def translated(error: Exception, context: ConnectorContext) -> HeadwaterError:
    """Return the error of the contract for one of `FAILURES`."""
    code = error_code(error)
    message = _message(error, context)
    if code == 0 or code in _OUTSIDE:
        return Unavailable(f"the database failed: {message}")
    return QueryRejected(f"the database rejects the statement: {message}")
