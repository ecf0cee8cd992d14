"""Applications in the cloud: users are read from and written to them, and events are sent to some of them.

The settings of an application are the same in both roles.
"""

import re
from typing import Final

from headwater.connectors.connector import Capabilities, Connector, Target, Terms
from headwater.connectors.settings import (
    PRINTABLE,
    VISIBLE,
    Choice,
    Field,
    Form,
    Group,
    SettingsRules,
    Text,
)


def _application(
    code: str,
    label: str,
    category: str,
    *fields: Field,
    reads: bool = True,
    writes: tuple[Target, ...],
    terms: Terms | None = None,
    one_of: tuple[str, ...] = (),
) -> Connector:
    """`reads` says that users are read from it, `writes` what is written to it."""
    settings = SettingsRules(fields, one_of=one_of)
    written = " and ".join({"User": "profiles", "Event": "events"}[target] for target in writes)
    return Connector(
        code=code,
        label=label,
        type="Application",
        categories=(category,),
        source=Capabilities(targets=("User",), settings=settings, summary=f"Import users from {label}.")
        if reads
        else None,
        destination=Capabilities(
            targets=writes,
            sending_modes=("Server",) if "Event" in writes else (),
            settings=settings,
            summary=f"Send {written} to {label}.",
        ),
        terms=terms or Terms(),
    )


def _form(pattern: str, rule: str) -> Form:
    return Form(re.compile(pattern), rule)


CONNECTORS: Final = (
    _application(
        "brevo",
        "Brevo",
        "Marketing",
        Text("apiKey", 1, 255, VISIBLE),
        writes=("User", "Event"),
    ),
    _application(
        "klaviyo",
        "Klaviyo",
        "Marketing",
        Text("privateAPIKey", 37, 255, _form("pk_[A-Za-z0-9]+", "must be pk_ and letters and digits")),
        writes=("User", "Event"),
    ),
    _application(
        "hubspot",
        "HubSpot",
        "CRM",
        Text("accessToken", 1, 255, PRINTABLE),
        writes=("User",),
        terms=Terms("Contact", "Contacts", "HubSpot ID"),
    ),
    _application(
        "mailchimp",
        "Mailchimp",
        "Marketing",
        Text("apiKey", 10, 100, _form("[!-~]+-[a-z0-9]+", 'must end with "-" and a data center, such as "-us6"')),
        Text("audience", 1, 100),
        writes=("User",),
        terms=Terms("Contact", "Contacts"),
    ),
    _application(
        "mailerlite",
        "MailerLite",
        "Marketing",
        Text("apiKey", 1, 4096, VISIBLE),
        writes=("User",),
        terms=Terms("Subscriber", "Subscribers", "Subscriber ID"),
    ),
    _application(
        "stripe",
        "Stripe",
        "Payments",
        Text("apiKey", 1, 200, PRINTABLE),
        writes=("User",),
        terms=Terms("Customer", "Customers"),
    ),
    _application(
        "google-analytics",
        "Google Analytics",
        "Analytics",
        Text("measurementID", 2, 20, _form("(G|AW)-.*", "must start with G- or AW-")),
        Text("apiSecret", 1, 100, PRINTABLE),
        Choice("collectionEndpoint", ("Global", "EU")),
        reads=False,
        writes=("Event",),
    ),
    _application(
        "mixpanel",
        "Mixpanel",
        "Analytics",
        Text("projectID", 1, 20, _form("[0-9]+", "must be a whole number as a string")),
        Text("projectToken", 1, 100, PRINTABLE),
        Choice("dataResidency", ("US", "EU", "IN")),
        reads=False,
        writes=("Event",),
    ),
    _application(
        "posthog",
        "PostHog",
        "Analytics",
        Text("apiKey", 47, 47, _form("phc_.*", "must start with phc_")),
        Group("cloud", (Choice("projectRegion", ("US", "EU")),), optional=True),
        Group("selfHosted", (Text("url", 1, 1_000, _form("https?://[!-~]+", "must be an HTTP URL")),), optional=True),
        reads=False,
        writes=("Event",),
        one_of=("cloud", "selfHosted"),
    ),
    # Segment's own name belongs to the webhook source, which events come from: this is the other direction.
    _application(
        "segment-api",
        "Segment API",
        "Customer data",
        Text("writeKey", 1, 100, VISIBLE),
        Choice("region", ("US", "EU")),
        reads=False,
        writes=("Event",),
    ),
)
