"""Sends events to Brevo, and reads and writes its contacts. docs/connectors/brevo.md has the form of requests."""

from typing import Final

from headwater.connectors.brevo.api import VERSION, check
from headwater.connectors.brevo.events import BrevoSink
from headwater.connectors.brevo.settings import BrevoSettings
from headwater.connectors.brevo.users import BrevoContacts
from headwater.connectors.connector import Terms
from headwater.connectors.contract import Engine
from headwater.connectors.describing import application

CONNECTOR: Final = application(
    "brevo",
    "Brevo",
    "Marketing",
    BrevoSettings,
    writes=("User", "Event"),
    terms=Terms("Contact", "Contacts", "Brevo ID"),
    engine=Engine(user_source=BrevoContacts, user_sink=BrevoContacts, event_sink=BrevoSink, http_check=check),
    version=VERSION,
)

__all__ = ["CONNECTOR"]
