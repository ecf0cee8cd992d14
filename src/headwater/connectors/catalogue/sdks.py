"""The SDKs, and the two HTTP APIs that are used without one. Users and events come from all of them."""

from typing import Final

from headwater.connectors.connector import Capabilities, Connector


def _source(label: str) -> Capabilities:
    return Capabilities(targets=("User", "Event"), summary=f"Receive events and users through {label}.")


def _on_a_device(code: str, label: str, categories: tuple[str, ...]) -> Connector:
    """Describe an SDK inside a page or an app. Its users are anonymous until they identify themselves."""
    return Connector(
        code=code,
        label=label,
        type="SDK",
        categories=categories,
        source=_source(f"the {label} SDK"),
        available=True,
        strategies=True,
        falls_back_to_request_ip=True,
    )


def _on_a_server(code: str, label: str) -> Connector:
    return Connector(
        code=code,
        label=label,
        type="SDK",
        categories=("Server",),
        source=_source(f"the {label} SDK"),
        available=True,
    )


CONNECTORS: Final = (
    _on_a_device("javascript", "JavaScript", ("Website",)),
    _on_a_device("android", "Android", ("Mobile",)),
    _on_a_device("ios", "iOS", ("Mobile",)),
    _on_a_server("dotnet", ".NET"),
    _on_a_server("go", "Go"),
    _on_a_server("java", "Java"),
    _on_a_server("nodejs", "Node.js"),
    _on_a_server("python", "Python"),
    Connector(
        code="http",
        label="HTTP API",
        type="SDK",
        categories=("Server",),
        source=_source("plain HTTP calls"),
        available=True,
    ),
    Connector(  # No fall-back to the request's address: calls have no context in which a user could opt out of it.
        code="client",
        label="Client API",
        type="SDK",
        categories=("Website", "Mobile"),
        source=_source("the Client API"),
        available=True,
        public_key=True,
    ),
)
