"""The connectors that connections can be made with at present, by code. All of them are sources of users and events."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from headwater.connectors.connector import Capabilities, Connector

_USERS_AND_EVENTS = Capabilities(targets=("User", "Event"))


def _on_a_device(code: str, label: str) -> Connector:
    """An SDK inside a page or an app: it meets people before they say who they are."""
    return Connector(
        code=code,
        label=label,
        type="SDK",
        source=_USERS_AND_EVENTS,
        strategies=True,
        falls_back_to_request_ip=True,
    )


def _on_a_server(code: str, label: str, *, public_key: bool = False) -> Connector:
    return Connector(code=code, label=label, type="SDK", source=_USERS_AND_EVENTS, public_key=public_key)


CONNECTORS: Final[Mapping[str, Connector]] = MappingProxyType(
    {
        connector.code: connector
        for connector in (
            _on_a_device("android", "Android"),
            _on_a_server("client", "Client API", public_key=True),
            _on_a_server("dotnet", ".NET"),
            _on_a_server("go", "Go"),
            _on_a_server("http", "HTTP API"),
            _on_a_device("ios", "iOS"),
            _on_a_server("java", "Java"),
            _on_a_device("javascript", "JavaScript"),
            _on_a_server("nodejs", "Node.js"),
            _on_a_server("python", "Python"),
        )
    }
)
"""Sorted by code, as they are listed."""
