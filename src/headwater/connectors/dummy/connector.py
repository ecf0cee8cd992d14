"""The dummy's entry in the catalogue."""

from typing import Final

from headwater.connectors.connector import Capabilities, Connector, Terms
from headwater.connectors.dummy.application import Dummy
from headwater.connectors.dummy.customers import Customers
from headwater.connectors.dummy.settings import RULES, DummySettings

_CUSTOMERS: Final = Customers()
"""One store for the process, as one application has one set of users whoever is connected to it."""

CONNECTOR: Final = Connector(
    code="dummy",
    label="Dummy",
    type="Application",
    categories=("Test",),
    source=Capabilities(targets=("User",), settings=RULES, summary="Import ten made-up customers."),
    destination=Capabilities(
        targets=("User", "Event"),
        sending_modes=("Server",),
        settings=RULES,
        summary="Send profiles and events to an application that is not there.",
    ),
    available=True,
    terms=Terms("Customer", "Customers", "Dummy Unique ID"),
    application=lambda settings: Dummy(DummySettings.of(settings), _CUSTOMERS),
)
