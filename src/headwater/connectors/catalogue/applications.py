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
