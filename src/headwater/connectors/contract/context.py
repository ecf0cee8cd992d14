"""The surroundings of an engine: everything that it uses of the system."""

import msgspec
import structlog

from headwater.base.clock import Clock
from headwater.connectors.contract.transport import HttpClient


class ConnectorContext(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP client, the clock and the logger of one connection.

    `http` is closed by whoever made the context. `logger` names the connection and the connector, and removes the
    secrets of the settings.
    """

    http: HttpClient
    clock: Clock
    logger: structlog.stdlib.BoundLogger
