"""Makes the context of an engine, and closes it.

aiohttp takes about 180 ms and 15 MB to import, so it is imported in a thread when a context sends its first request.
Processes that send none never import it.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

import msgspec
import structlog

from headwater.base.clock import Clock, SystemClock
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.contract import AccessToken, ConnectorContext, HttpRequest, HttpResponse, OAuthClient
from headwater.connectors.contract.context import ROOT_SETTING
from headwater.connectors.origins import NO_ORIGINS, Origins
from headwater.connectors.redaction import Redactor
from headwater.connectors.settings import Settings

if TYPE_CHECKING:
    from headwater.connectors.http import AiohttpClient


DEFAULT_MAX_CONNECTIONS: Final = 16


class ConnectorEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    """The shared dependencies of the contexts of one process.

    `oauth_clients` are the installation's registrations at providers, by the code of the connector. `filesystem_root`
    is the folder of files of the server; None if connections may not reach any. Each workspace has a folder of its own
    there, named by its id, unless `filesystem_is_shared`. `origins` are servers that stand for those of vendors.
    `data_folder` has a folder for each workspace with the users
    of applications for tests; None if they are kept in memory.
    """

    addresses: AddressPolicy = AddressPolicy()
    clock: Clock = SystemClock()
    oauth_clients: Mapping[str, OAuthClient] = {}
    filesystem_root: Path | None = None
    filesystem_is_shared: bool = False
    data_folder: Path | None = None
    origins: Origins = NO_ORIGINS

    @asynccontextmanager
    async def context(
        self,
        connector: str,
        connection: int | None,
        settings: Settings | None,
        access_token: AccessToken | None = None,
        max_connections: int = DEFAULT_MAX_CONNECTIONS,
        workspace: int | None = None,
    ) -> AsyncIterator[ConnectorContext]:
        """Open the context of one connection; its HTTP client is closed at the end.

        `connection` is None for calls to a provider, which belong to no connection. `access_token` is for connections
        with an OAuth account. `max_connections` is the size of the client's pool: a sink uses the `max_concurrency` of
        its policy. `workspace` is the one whose files of the server can be reached, and for which names are resolved;
        None for calls that need none.
        """
        client = self.oauth_clients.get(connector)
        secrets = () if settings is None else settings.secrets()
        redactor = Redactor(secrets if client is None else (*secrets, client.secret))
        http = _LazyClient(self.addresses, redactor, access_token, max_connections, workspace, self.origins)
        logger = structlog.wrap_logger(
            structlog.get_logger("headwater.connectors"),
            processors=[redactor.process_log, *structlog.get_config()["processors"]],
            connector=connector,
            connection=connection,
        )
        try:
            yield ConnectorContext(
                http=http,
                clock=self.clock,
                logger=logger,
                redact=redactor.redact,
                oauth_client=client,
                account_url=None if access_token is None else access_token.url,
                addresses=self.addresses,
                filesystem_root=self._find_root(workspace),
                filesystem_folder=ROOT_SETTING if self.filesystem_is_shared else f"{ROOT_SETTING}/{workspace}",
                data_folder=_find_folder(self.data_folder, workspace),
                workspace=workspace,
            )
        finally:
            await http.close()

    def _find_root(self, workspace: int | None) -> Path | None:
        if self.filesystem_root is None or self.filesystem_is_shared:
            return self.filesystem_root
        return _find_folder(self.filesystem_root, workspace)


def _find_folder(folder: Path | None, workspace: int | None) -> Path | None:
    return None if folder is None or workspace is None else folder / str(workspace)


DEFAULT_ENVIRONMENT = ConnectorEnvironment()
"""Connects to public addresses only."""


class _LazyClient:
    """An `HttpClient` that makes the real one when it is first used."""

    def __init__(
        self,
        addresses: AddressPolicy,
        redactor: Redactor,
        access_token: AccessToken | None,
        max_connections: int,
        workspace: int | None,
        origins: Origins,
    ) -> None:
        self._addresses = addresses
        self._redactor = redactor
        self._access_token = access_token
        self._max_connections = max_connections
        self._workspace = workspace
        self._origins = origins
        self._client: AiohttpClient | None = None
        self._opening = asyncio.Lock()

    async def send(self, request: HttpRequest) -> HttpResponse:
        client = self._client or await self._open()
        return await client.send(request)

    async def _open(self) -> "AiohttpClient":
        async with self._opening:
            if self._client is None:
                http = await asyncio.to_thread(_import_client)
                limits = http.HttpLimits(max_connections=self._max_connections)
                self._client = http.AiohttpClient(
                    self._addresses,
                    self._redactor,
                    limits,
                    self._access_token,
                    workspace=self._workspace,
                    origins=self._origins,
                )
            return self._client

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()


def _import_client() -> ModuleType:
    from headwater.connectors import http

    return http
