"""The dummy: ten customers in memory, and events that go to the URL of its settings.

It is the reference implementation of `UserSource`, `UserSink` and `EventSink`, for trying things out and for tests. It
needs no account, its customers are known, and its settings make it slow or unreliable. All connections of one process
share the customers.
"""

from typing import Final

from headwater.connectors.connector import Capabilities, Connector, Terms
from headwater.connectors.contract import Engine
from headwater.connectors.dummy.customers import Customers
from headwater.connectors.dummy.events import DummyEventSink
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.dummy.users import DummyUsers

_CUSTOMERS: Final = Customers()
"""One store for the process, as an application has one set of users for all its connections."""

CONNECTOR: Final = Connector(
    code="dummy",
    label="Dummy",
    type="Application",
    categories=("Test",),
    source=Capabilities(targets=("User",), settings=DummySettings, summary="Import made-up customers."),
    destination=Capabilities(
        targets=("User", "Event"),
        sending_modes=("Server",),
        settings=DummySettings,
        summary="Send profiles and events to an application that is not there.",
    ),
    available=True,
    terms=Terms("Customer", "Customers", "Dummy Unique ID"),
    engine=Engine(
        user_source=lambda settings, context: DummyUsers(settings, context, _CUSTOMERS),
        user_sink=lambda settings, context: DummyUsers(settings, context, _CUSTOMERS),
        event_sink=DummyEventSink,
    ),
)

__all__ = ["CONNECTOR"]
