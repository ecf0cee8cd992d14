"""Every connector that is documented, by code. Those without an engine are listed too, so that what is refused is
refused for the documented reason; `available` tells them apart."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from headwater.connectors import (
    applications,
    databases,
    dummy,
    file_formats,
    file_storages,
    message_brokers,
    sdks,
    webhooks,
)
from headwater.connectors.connector import Connector

CONNECTORS: Final[Mapping[str, Connector]] = MappingProxyType(
    {
        connector.code: connector
        for connector in sorted(
            (
                *applications.CONNECTORS,
                *databases.CONNECTORS,
                *file_formats.CONNECTORS,
                *file_storages.CONNECTORS,
                *message_brokers.CONNECTORS,
                *sdks.CONNECTORS,
                *webhooks.CONNECTORS,
                dummy.CONNECTOR,
            ),
            key=lambda connector: connector.code,
        )
    }
)
"""Sorted by code, as they are listed."""
