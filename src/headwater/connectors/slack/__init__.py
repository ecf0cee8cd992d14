"""Sends events to a channel of Slack, and one message for many events if there are more than people can read.

docs/connectors/slack.md has the form of messages.
"""

from typing import Final

from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.slack.api import check
from headwater.connectors.slack.events import SlackSink
from headwater.connectors.slack.settings import SlackSettings

CONNECTOR: Final = application(
    "slack",
    "Slack",
    "Messaging",
    SlackSettings,
    reads=False,
    writes=("Event",),
    engine=Engine(event_sink=SlackSink, http_check=check),
)

__all__ = ["CONNECTOR"]
