"""Sends events to Google Analytics by its Measurement Protocol, which confirms nothing.

docs/connectors/google-analytics.md has the form of requests.
"""

from typing import Final

from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.google_analytics.api import check
from headwater.connectors.google_analytics.events import GoogleAnalyticsSink
from headwater.connectors.google_analytics.settings import GoogleAnalyticsSettings

CONNECTOR: Final = application(
    "google-analytics",
    "Google Analytics",
    "Analytics",
    GoogleAnalyticsSettings,
    reads=False,
    writes=("Event",),
    engine=Engine(event_sink=GoogleAnalyticsSink, http_check=check),
)

__all__ = ["CONNECTOR"]
