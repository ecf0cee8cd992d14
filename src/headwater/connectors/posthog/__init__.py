"""Sends events to PostHog in batches, to its cloud or to another server.

docs/connectors/posthog.md has the form of requests.
"""

from typing import Final

from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.posthog.api import check
from headwater.connectors.posthog.events import PostHogSink
from headwater.connectors.posthog.settings import PostHogSettings

CONNECTOR: Final = application(
    "posthog",
    "PostHog",
    "Analytics",
    PostHogSettings,
    reads=False,
    writes=("Event",),
    engine=Engine(event_sink=PostHogSink, http_check=check),
)

__all__ = ["CONNECTOR"]
