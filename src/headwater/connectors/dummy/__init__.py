"""The dummy: ten customers and those that are written, and events that go to the URL of its settings.

It is the reference implementation of `UserSource`, `UserSink` and `EventSink`, for trying things out and for tests. It
needs no account, its customers are known, and its settings make it slow or unreliable. All connections of a workspace
share the customers, which are in a file of the machine.
"""

from typing import Final

from headwater.connectors.connector import Capabilities, Connector, Terms
from headwater.connectors.contract import ConnectorContext, Engine
from headwater.connectors.dummy.customers import Customers
from headwater.connectors.dummy.events import DummyEventSink
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.dummy.users import DummyUsers

_CUSTOMERS: Final = Customers()
"""The customers of contexts without a folder."""


def _users(settings: DummySettings, context: ConnectorContext) -> DummyUsers:
    folder = context.data_folder
    return DummyUsers(settings, context, _CUSTOMERS if folder is None else Customers(folder / "dummy.db"))


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
        user_source=_users,
        user_sink=_users,
        event_sink=DummyEventSink,
        writes_users_over_http=False,
    ),
)

__all__ = ["CONNECTOR"]
