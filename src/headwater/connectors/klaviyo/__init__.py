"""Sends events to Klaviyo, in bulk or one by one, through a revision of its API with a date of end.

docs/connectors/klaviyo.md has the form of requests.
"""

from typing import Final

from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.klaviyo.api import REVISION, check
from headwater.connectors.klaviyo.events import KlaviyoSink
from headwater.connectors.klaviyo.settings import KlaviyoSettings

CONNECTOR: Final = application(
    "klaviyo",
    "Klaviyo",
    "Marketing",
    KlaviyoSettings,
    writes=("User", "Event"),
    engine=Engine(event_sink=KlaviyoSink, http_check=check),
    version=REVISION,
)

__all__ = ["CONNECTOR"]
