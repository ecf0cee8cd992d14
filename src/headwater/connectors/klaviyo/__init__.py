"""Sends events to Klaviyo, and reads and writes its profiles, through a revision of its API with a date of end.

docs/connectors/klaviyo.md has the form of requests.
"""

from typing import Final

from headwater.connectors.connector import Terms
from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.klaviyo.api import REVISION, check
from headwater.connectors.klaviyo.events import KlaviyoSink
from headwater.connectors.klaviyo.settings import KlaviyoSettings
from headwater.connectors.klaviyo.users import KlaviyoProfiles

CONNECTOR: Final = application(
    "klaviyo",
    "Klaviyo",
    "Marketing",
    KlaviyoSettings,
    writes=("User", "Event"),
    terms=Terms("Profile", "Profiles", "Klaviyo ID"),
    engine=Engine(user_source=KlaviyoProfiles, user_sink=KlaviyoProfiles, event_sink=KlaviyoSink, http_check=check),
    version=REVISION,
)

__all__ = ["CONNECTOR"]
