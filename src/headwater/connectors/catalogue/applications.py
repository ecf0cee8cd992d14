"""Applications: users are read from and written to them, and events are sent to some of them.

The settings of an application are the same in both roles.
"""

import re
from typing import Annotated, Final

from headwater.connectors.connector import Terms
from headwater.connectors.describing import application
from headwater.connectors.settings import PRINTABLE, VISIBLE, Format, Settings, Text


def _format(pattern: str, rule: str) -> Format:
    return Format(re.compile(pattern), rule)


class BrevoSettings(Settings, frozen=True, kw_only=True):
    api_key: Annotated[str, Text(1, 255, VISIBLE, secret=True)]


class HubSpotSettings(Settings, frozen=True, kw_only=True):
    access_token: Annotated[str, Text(1, 255, PRINTABLE, secret=True, help="The token of a private app.")]


class MailchimpSettings(Settings, frozen=True, kw_only=True):
    api_key: Annotated[
        str,
        Text(
            10,
            100,
            _format("[!-~]+-[a-z0-9]+", 'must end with "-" and a data center, such as "-us6"'),
            secret=True,
        ),
    ]
    audience: Annotated[str, Text(1, 100, help="The id of the list.")]


class MailerLiteSettings(Settings, frozen=True, kw_only=True):
    api_key: Annotated[str, Text(1, 4096, VISIBLE, secret=True)]


class StripeSettings(Settings, frozen=True, kw_only=True):
    api_key: Annotated[str, Text(1, 200, PRINTABLE, secret=True)]


CONNECTORS: Final = (
    application("brevo", "Brevo", "Marketing", BrevoSettings, writes=("User", "Event")),
    application(
        "hubspot",
        "HubSpot",
        "CRM",
        HubSpotSettings,
        writes=("User",),
        terms=Terms("Contact", "Contacts", "HubSpot ID"),
    ),
    application(
        "mailchimp",
        "Mailchimp",
        "Marketing",
        MailchimpSettings,
        writes=("User",),
        terms=Terms("Contact", "Contacts"),
    ),
    application(
        "mailerlite",
        "MailerLite",
        "Marketing",
        MailerLiteSettings,
        writes=("User",),
        terms=Terms("Subscriber", "Subscribers", "Subscriber ID"),
    ),
    application("stripe", "Stripe", "Payments", StripeSettings, writes=("User",), terms=Terms("Customer", "Customers")),
)
