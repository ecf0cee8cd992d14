"""Sends events to Mixpanel, and sets the profiles of its users.

docs/connectors/mixpanel.md has the form of requests.
"""

from typing import Final

from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.mixpanel.api import check
from headwater.connectors.mixpanel.events import MixpanelSink
from headwater.connectors.mixpanel.settings import MixpanelSettings

CONNECTOR: Final = application(
    "mixpanel",
    "Mixpanel",
    "Analytics",
    MixpanelSettings,
    reads=False,
    writes=("Event",),
    engine=Engine(event_sink=MixpanelSink, http_check=check),
)

__all__ = ["CONNECTOR"]
