"""Sends events and users to Mixpanel.

docs/connectors/mixpanel.md has the form of requests.
"""

from typing import Final

from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.mixpanel.api import check
from headwater.connectors.mixpanel.events import MixpanelSink
from headwater.connectors.mixpanel.settings import MixpanelSettings
from headwater.connectors.mixpanel.users import MixpanelUsers

CONNECTOR: Final = application(
    "mixpanel",
    "Mixpanel",
    "Analytics",
    MixpanelSettings,
    reads=False,
    writes=("User", "Event"),
    engine=Engine(user_sink=MixpanelUsers, event_sink=MixpanelSink, http_check=check),
)

__all__ = ["CONNECTOR"]
