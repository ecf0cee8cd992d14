"""What the devices of people learn from events. They do not depend on the pipelines of a source."""

from headwater.events.devices import device_change
from headwater.processing.batch import Arrival
from headwater.state import DeviceEvent


def device_event(arrival: Arrival) -> DeviceEvent | None:
    """What an event says of a device of its user; None when it says nothing of one, or names nobody."""
    event = arrival.event
    change = device_change(event)
    if change is None or (event.user_id is None and event.anonymous_id is None):
        return None
    return DeviceEvent(
        workspace=arrival.workspace,
        connection=event.connection_id,
        user_id=event.user_id,
        anonymous_id=event.anonymous_id,
        at=arrival.at,
        change=change,
    )
