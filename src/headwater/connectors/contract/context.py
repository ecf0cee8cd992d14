"""The dependencies of an engine: everything that it uses of the system."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import msgspec
import structlog

from headwater.base.clock import Clock
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.contract.oauth import OAuthClient
from headwater.connectors.contract.transport import HttpClient

ROOT_SETTING: Final = "HEADWATER_FILESYSTEM_ROOT"
"""The setting of the operator that has the folder of files of the server."""


def _leave_unchanged(text: str) -> str:
    return text


class ConnectorContext(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP client, the clock and the logger of one connection.

    The maker of the context closes `http`. `logger` adds the connection and the connector to each entry, and removes
    the secrets of the settings. `redact` removes them from a text of the outside system, which may repeat them.
    `oauth_client` is the installation's registration at the connector's provider; None
    without one. `account_url` returns the URL of the server with the data of the connection's OAuth account, and raises
    as `AccessToken.url`; None without an account. A capability that connects without `http` checks each address with
    `addresses` before it connects.
    `filesystem_root` is the folder of the files of the server that the connection's workspace may reach; None if it may
    reach none. `filesystem_folder` names this folder in messages, which do not reveal where it is. `data_folder` is a
    folder of the workspace in which an application for tests keeps its users, on this machine; None without one.
    `workspace` is that of the connection, which shares the resolver with others; None for calls that belong to none.
    """

    http: HttpClient
    clock: Clock
    logger: structlog.stdlib.BoundLogger
    redact: Callable[[str], str] = _leave_unchanged
    oauth_client: OAuthClient | None = None
    account_url: Callable[[], Awaitable[str]] | None = None
    addresses: AddressPolicy = AddressPolicy()
    filesystem_root: Path | None = None
    filesystem_folder: str = ROOT_SETTING
    data_folder: Path | None = None
    workspace: int | None = None
