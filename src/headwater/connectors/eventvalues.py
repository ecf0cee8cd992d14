"""Reads the values that a mapping returned for an event, by the schema of its event type."""

from collections.abc import Iterable
from typing import Any

from headwater.connectors.contract import EventRejected, EventType, OutgoingEvent
from headwater.schemas import Codec, all_optional


class EventValues:
    """The event types of a sink. Make it once for each connector: compiling the schemas takes long."""

    def __init__(self, event_types: Iterable[EventType]) -> None:
        self._codecs = {
            type_.id: None if type_.schema is None else Codec(all_optional(type_.schema)) for type_ in event_types
        }

    def document(self, event: OutgoingEvent) -> dict[str, Any]:
        """Return the values of an event as the members of a JSON object; none if its type has no schema.

        Raises EventRejected for an event type that does not exist, and InvalidValue for values of another schema.
        """
        try:
            codec = self._codecs[event.event_type]
        except KeyError:
            raise EventRejected("UnknownEventType", f'event type "{event.event_type}" does not exist') from None
        return {} if codec is None else codec.document(event.values)
