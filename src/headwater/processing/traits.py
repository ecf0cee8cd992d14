"""What pipelines learn of people from the client API: all that its calls have said, not only what the last one did."""

from msgspec import Raw

from headwater.processing.batch import Arrival
from headwater.schemas import Json, Record
from headwater.state import TraitsUpdate


def traits_update(arrival: Arrival) -> TraitsUpdate | None:
    """What an event says of a person; None for one of another dialect, whose events stand for themselves."""
    if arrival.protocol != "client":
        return None
    event = arrival.event
    previous_id = event.previous_id if event.type == "alias" else None
    return TraitsUpdate(event.connection_id, event.user_id, event.anonymous_id, event.traits, previous_id)


def with_known_traits(record: Record | None, traits: Raw | None) -> Record | None:
    """The record with everything that is known of the person; `traits` is None when the record has it already."""
    return record if record is None or traits is None else {**record, "traits": Json(bytes(traits).decode())}
