"""Applications: users are read from and written to them, and events are sent to some of them.

The settings of an application are the same in both roles.
"""

import re
from typing import Annotated, ClassVar, Final, Literal

from headwater.connectors.connector import Terms
from headwater.connectors.describing import application
from headwater.connectors.settings import PRINTABLE, VISIBLE, Choice, Format, Group, Settings, Text, setting


def _format(pattern: str, rule: str) -> Format:
    return Format(re.compile(pattern), rule)


class BrevoSettings(Settings, frozen=True, kw_only=True):
    api_key: Annotated[str, Text(1, 255, VISIBLE, secret=True)]


class HubSpotSettings(Settings, frozen=True, kw_only=True):
    access_token: Annotated[str, Text(1, 255, PRINTABLE, secret=True, help="The token of a private app.")]


class GoogleAnalyticsSettings(Settings, frozen=True, kw_only=True):
    measurement_id: Annotated[str, Text(2, 20, _format("(G|AW)-.*", "must start with G- or AW-"))] = setting(
        "measurementID"
    )
    api_secret: Annotated[str, Text(1, 100, PRINTABLE, secret=True)]
    collection_endpoint: Annotated[Literal["Global", "EU"], Choice()]


class MixpanelSettings(Settings, frozen=True, kw_only=True):
    project_id: Annotated[str, Text(1, 20, _format("[0-9]+", "must be a whole number as a string"))] = setting(
        "projectID"
    )
    project_token: Annotated[str, Text(1, 100, PRINTABLE, secret=True)]
    data_residency: Annotated[Literal["US", "EU", "IN"], Choice()]


class PostHogCloud(Settings, frozen=True, kw_only=True):
    project_region: Annotated[Literal["US", "EU"], Choice()]


class PostHogSelfHosted(Settings, frozen=True, kw_only=True):
    url: Annotated[str, Text(1, 1_000, _format("https?://[!-~]+", "must be an HTTP URL"), label="URL")]


class PostHogSettings(Settings, frozen=True, kw_only=True):
    ONE_OF: ClassVar = ("cloud", "selfHosted")

    api_key: Annotated[str, Text(47, 47, _format("phc_.*", "must start with phc_"), secret=True)]
    cloud: Annotated[PostHogCloud | None, Group()] = None
    self_hosted: Annotated[PostHogSelfHosted | None, Group()] = None


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
        "google-analytics", "Google Analytics", "Analytics", GoogleAnalyticsSettings, reads=False, writes=("Event",)
    ),
    application("mixpanel", "Mixpanel", "Analytics", MixpanelSettings, reads=False, writes=("Event",)),
    application("posthog", "PostHog", "Analytics", PostHogSettings, reads=False, writes=("Event",)),
)
