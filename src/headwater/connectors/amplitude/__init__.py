"""Sends events to Amplitude: few at once to its endpoint for the present, and many to that for batches.

docs/connectors/amplitude.md has the form of requests.
"""

from typing import Final

from headwater.connectors.amplitude.api import check
from headwater.connectors.amplitude.events import AmplitudeSink
from headwater.connectors.amplitude.settings import AmplitudeSettings
from headwater.connectors.contract import Engine
from headwater.connectors.describing import application

CONNECTOR: Final = application(
    "amplitude",
    "Amplitude",
    "Analytics",
    AmplitudeSettings,
    reads=False,
    writes=("Event",),
    engine=Engine(event_sink=AmplitudeSink, http_check=check),
)

__all__ = ["CONNECTOR"]
