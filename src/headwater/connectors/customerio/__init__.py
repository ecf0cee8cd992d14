"""Sends events and people to Customer.io, through version 2 of its Track API.

docs/connectors/customerio.md has the form of requests.
"""

from typing import Final

from headwater.connectors.connector import Terms
from headwater.connectors.contract import Engine
from headwater.connectors.customerio.api import check
from headwater.connectors.customerio.events import CustomerIoSink
from headwater.connectors.customerio.settings import CustomerIoSettings
from headwater.connectors.customerio.users import CustomerIoPeople
from headwater.connectors.describing import application

CONNECTOR: Final = application(
    "customerio",
    "Customer.io",
    "Marketing",
    CustomerIoSettings,
    reads=False,
    writes=("User", "Event"),
    terms=Terms("Person", "People", "ID"),
    engine=Engine(user_sink=CustomerIoPeople, event_sink=CustomerIoSink, http_check=check),
)

__all__ = ["CONNECTOR"]
