"""The event types of PostHog: one for each call, with the mappings that suit most events."""

from typing import Final

from headwater.connectors.contract import EventType
from headwater.connectors.posthog.api import MAX_GROUP_CHARACTERS
from headwater.schemas import JsonType, MapType, ObjectType, Property, StringType, UuidType


def _type(id_: str, name: str, description: str, *first: Property, properties: str = "properties") -> EventType:
    return EventType(
        id=id_,
        name=name,
        description=description,
        filter=f"type is '{id_}'",
        schema=ObjectType(
            (
                *first,
                Property("properties", MapType(JsonType()), prefilled=properties, description="Properties"),
                Property("groups", MapType(StringType()), description="Group IDs by group type"),
                Property("session_id", UuidType(), description="Session ID (a UUID of version 7)"),
            )
        ),
    )


EVENT_TYPES: Final = (
    _type("identify", "Identify", "Set the properties of a person, and merge the anonymous id", properties="traits"),
    _type(
        "group",
        "Group identify",
        "Set the properties of a group",
        Property(
            "group_type",
            StringType(max_length=MAX_GROUP_CHARACTERS),
            prefilled="'company'",
            create_required=True,
            description="Group type",
        ),
        properties="traits",
    ),
    _type("alias", "Alias", "Merge the previous id into the user"),
    _type("page", "Pageview", "Send the view of a page"),
    _type("screen", "Screen", "Send the view of a screen"),
    _type(
        "track",
        "Track",
        "Send the event under its own name",
        Property("event", StringType(), prefilled="event", create_required=True, description="Event name"),
    ),
)
