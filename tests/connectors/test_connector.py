"""The description of a connector: roles, events and keys."""

import pytest

from headwater.connectors.connector import Capabilities, Connector, ConnectorType, Role

USERS = Capabilities(targets=("User",))
EVENTS = Capabilities(targets=("User", "Event"))


def _connector(type_: ConnectorType, source: Capabilities | None, destination: Capabilities | None) -> Connector:
    return Connector(code="x", label="X", type=type_, source=source, destination=destination)


@pytest.mark.parametrize(
    ("connector", "role", "supports_events", "receives_events"),
    [
        (_connector("SDK", EVENTS, None), "Source", True, True),
        (_connector("SDK", EVENTS, None), "Destination", False, False),
        (_connector("Webhook", EVENTS, None), "Source", True, True),
        (_connector("Application", USERS, EVENTS), "Source", False, False),
        (_connector("Application", USERS, EVENTS), "Destination", True, False),
        (_connector("Database", USERS, USERS), "Destination", False, False),
    ],
)
def test_events_by_role(connector: Connector, role: Role, supports_events: bool, receives_events: bool) -> None:
    assert connector.supports_events(role) is supports_events
    assert connector.receives_events(role) is receives_events


def test_capabilities_by_role() -> None:
    connector = _connector("Application", USERS, EVENTS)
    assert connector.capabilities("Source") is USERS
    assert connector.capabilities("Destination") is EVENTS
