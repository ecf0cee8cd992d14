"""Reads and writes the contacts of a Mailchimp audience. docs/connectors/mailchimp.md has the form of requests."""

from typing import Final

from headwater.connectors.connector import Terms
from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.mailchimp.api import VERSION, check
from headwater.connectors.mailchimp.settings import MailchimpSettings
from headwater.connectors.mailchimp.users import MailchimpContacts

CONNECTOR: Final = application(
    "mailchimp",
    "Mailchimp",
    "Marketing",
    MailchimpSettings,
    writes=("User",),
    terms=Terms("Contact", "Contacts"),
    engine=Engine(user_source=MailchimpContacts, user_sink=MailchimpContacts, http_check=check),
    version=VERSION,
)

__all__ = ["CONNECTOR"]
