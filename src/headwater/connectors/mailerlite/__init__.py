"""Reads and writes the subscribers of a MailerLite account. docs/connectors/mailerlite.md has the form of requests."""

from typing import Final

from headwater.connectors.connector import Terms
from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.mailerlite.api import VERSION, check
from headwater.connectors.mailerlite.settings import MailerLiteSettings
from headwater.connectors.mailerlite.users import MailerLiteSubscribers

CONNECTOR: Final = application(
    "mailerlite",
    "MailerLite",
    "Marketing",
    MailerLiteSettings,
    writes=("User",),
    terms=Terms("Subscriber", "Subscribers", "Subscriber ID"),
    engine=Engine(user_source=MailerLiteSubscribers, user_sink=MailerLiteSubscribers, http_check=check),
    version=VERSION,
)

__all__ = ["CONNECTOR"]
