"""A process that uses the access token of an account in several tasks: `python -m tests.catalog.refreshing`.

The arguments are a JSON object. The process prints "ready", waits for a line, and prints the tokens of its tasks as
JSON. With `dies` it kills itself when the provider has responded, before the tokens are written.
"""

import asyncio
import json
import os
import signal
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

from headwater.base.encryption import Keyring
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.catalog.accounts import OAuthAccounts
from headwater.connectors.addresses import ANY_ADDRESS
from headwater.connectors.contract import OAuthClient
from headwater.connectors.environment import ConnectorEnvironment


class _ShiftedClock:
    """The real time, moved by some seconds."""

    def __init__(self, seconds: float) -> None:
        self._shift = timedelta(seconds=seconds)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._shift


async def _die(*_: Any, **__: Any) -> bool:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


async def main(given: dict[str, Any]) -> None:
    clock = _ShiftedClock(given["shift_seconds"])
    if given["dies"]:
        OAuthAccounts.store = _die  # type: ignore[method-assign]
    client = OAuthClient(id=given["client_id"], secret=given["client_secret"], url=given["client_url"])
    environment = ConnectorEnvironment(addresses=ANY_ADDRESS, clock=clock, oauth_clients={"sample-oauth-app": client})
    keyring = Keyring(given["key"])
    async with open_catalog(given["url"], clock=clock, identifiers=Identifiers(), keyring=keyring) as catalog:
        connection = catalog.connection(given["workspace"], given["connection"])
        assert connection is not None
        token = catalog.access_token(connection, environment)
        assert token is not None
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        found = await asyncio.gather(*(token.current() for _ in range(given["tasks"])))
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
