"""The dependencies of an engine: everything that it uses of the system."""

import msgspec
import structlog

from headwater.base.clock import Clock
from headwater.connectors.contract.transport import HttpClient


class ConnectorContext(msgspec.Struct, frozen=True, kw_only=True):
    """The HTTP client, the clock and the logger of one connection.

    The maker of the context closes `http`. `logger` adds the connection and the connector to each entry, and removes
    the secrets of the settings.
    """

    http: HttpClient
    clock: Clock
    logger: structlog.stdlib.BoundLogger
