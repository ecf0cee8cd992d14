"""Sends events to the Conversions API of Meta, with personal data that is normalised and hashed once.

docs/connectors/meta-conversions.md has the form of requests.
"""

from typing import Final

from headwater.connectors.contract import Engine
from headwater.connectors.describing import application
from headwater.connectors.meta_conversions.api import VERSION, check
from headwater.connectors.meta_conversions.events import MetaConversionsSink
from headwater.connectors.meta_conversions.settings import MetaConversionsSettings

CONNECTOR: Final = application(
    "meta-conversions",
    "Meta Conversions",
    "Advertising",
    MetaConversionsSettings,
    reads=False,
    writes=("Event",),
    engine=Engine(event_sink=MetaConversionsSink, http_check=check),
    version=VERSION,
)

__all__ = ["CONNECTOR"]
