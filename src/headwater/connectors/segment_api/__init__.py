"""Sends events to any receiver of the Segment family: Segment, RudderStack, Jitsu, Customer.io, another Headwater.

Events arrive as they are stored, with their own message ids and times, so that a receiver recognises repetitions and
moves no event in time. The code "segment" belongs to the webhook source, which is the other direction.
"""

from typing import Final

from headwater.connectors.connector import Capabilities, Connector, Terms
from headwater.connectors.contract import Engine
from headwater.connectors.segment_api.events import SegmentSink
from headwater.connectors.segment_api.settings import SegmentSettings

CONNECTOR: Final = Connector(
    code="segment-api",
    label="Segment API",
    type="Application",
    categories=("Customer data",),
    destination=Capabilities(
        targets=("Event",),
        sending_modes=("Server",),
        settings=SegmentSettings,
        summary="Send events to Segment, or to a receiver with its HTTP API.",
    ),
    available=True,
    terms=Terms(),
    engine=Engine(event_sink=SegmentSink),
)

__all__ = ["CONNECTOR"]
