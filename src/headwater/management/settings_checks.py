"""Checks the settings of a connection with the outside system before they are stored."""

import asyncio
from datetime import datetime
from typing import Final

from headwater.base.errors import Unavailable
from headwater.catalog import Catalog, Connection
from headwater.connectors.connector import Connector
from headwater.connectors.contract import AccessToken
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.settings import Settings
from headwater.management.blocking import BlockingCalls

CHECK_SECONDS: Final = 20.0


class SettingsChecks:
    """Asks outside systems whether they accept settings. Only some connectors do: those whose engine has a check."""

    def __init__(self, environment: ConnectorEnvironment, calls: BlockingCalls) -> None:
        self._environment = environment
        self._calls = calls

    def now(self) -> datetime:
        """Return the present time."""
        return self._environment.clock.now()

    def access_token(self, catalog: Catalog, connection: Connection) -> AccessToken | None:
        """Return the access token of a connection; None without an account."""
        return catalog.access_token(connection, self._environment)

    async def checked(
        self, workspace: int, connector: Connector, settings: Settings, access_token: AccessToken | None = None
    ) -> Settings:
        """Return the settings to store. `access_token` is that of the connection's OAuth account.

        They can have values that the outside system has added, such as its public key. Raises Unprocessable with
        InvalidSettings or ConnectorNotAvailable, and Unavailable if the system does not respond.
        """
        engine = connector.engine
        if not engine.checks_settings:
            return settings
        checked: Settings
        opening = self._environment.context(connector.code, None, settings, access_token, workspace=workspace)
        async with opening as context:
            if engine.http_check is not None:
                try:
                    async with asyncio.timeout(CHECK_SECONDS):
                        checked = await engine.http_check(settings, context)
                except TimeoutError:
                    raise Unavailable(f"{connector.label} did not respond in {CHECK_SECONDS:.0f} s") from None
            else:
                assert engine.check is not None
                checked = await self._calls.run(
                    workspace, engine.check, settings, context, timeout_seconds=CHECK_SECONDS
                )
        return checked
