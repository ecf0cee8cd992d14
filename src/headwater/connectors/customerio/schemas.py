"""The event types of Customer.io, with the mappings that suit most events, and the schema of people.

The Track API has no list of a workspace's attributes, and a person can have any. So they are one map, and the schemas
are the same for all workspaces.
"""

from typing import Final

from headwater.connectors.contract import EventType
from headwater.connectors.customerio.api import MAX_ID_BYTES
from headwater.schemas import (
    BooleanType,
    DateTimeType,
    JsonType,
    MapType,
    ObjectType,
    Property,
    Schema,
    StringType,
)

MAX_NAME_BYTES: Final = 100
MAX_EMAIL_BYTES: Final = 254

_IDENTIFIER: Final = StringType(max_bytes=MAX_ID_BYTES)
_EMAIL: Final = StringType(max_bytes=MAX_EMAIL_BYTES)
_ID: Final = Property("id", _IDENTIFIER, prefilled="userId", description="ID")
_ANONYMOUS_ID: Final = Property("anonymous_id", _IDENTIFIER, prefilled="anonymousId", description="Anonymous ID")
_TRAITS_EMAIL: Final = Property("email", _EMAIL, prefilled="traits.email", description="Email")
_ATTRIBUTES: Final = MapType(JsonType())


DEVICE_ATTRIBUTES: Final = {
    "device_os": ("context.os.version", "Version of the operating system"),
    "device_model": ("context.device.model", "Model"),
    "device_locale": ("context.locale", "Locale"),
    "app_version": ("context.app.version", "App version"),
}
"""The attributes of a device, each with its suggested expression and its description."""


def _event(name: str) -> ObjectType:
    """Return the schema of an event of a person, with the suggested expression of its name."""
    return ObjectType(
        (
            Property(
                "name",
                StringType(max_bytes=MAX_NAME_BYTES),
                prefilled=name,
                create_required=True,
                description="Event name",
            ),
            _ID,
            Property("email", _EMAIL, description="Email, for people without ID"),
            _ANONYMOUS_ID,
            Property("attributes", _ATTRIBUTES, prefilled="properties", description="Attributes of the event"),
        )
    )


EVENT_TYPES: Final = (
    EventType(
        id="event",
        name="Send events",
        description="Send track events with their properties",
        filter="type is 'track'",
        schema=_event("event"),
    ),
    EventType(
        id="page",
        name="Send page views",
        description="Send views of pages",
        filter="type is 'page'",
        schema=_event("coalesce(name, properties.path, context.page.path)"),
    ),
    EventType(
        id="screen",
        name="Send screen views",
        description="Send views of screens",
        filter="type is 'screen'",
        schema=_event("name"),
    ),
    EventType(
        id="identify",
        name="Add or update people",
        description="Set attributes of identified people",
        filter="type is 'identify' and userId is not empty",
        schema=ObjectType(
            (
                _ID,
                _TRAITS_EMAIL,
                _ANONYMOUS_ID,
                Property(
                    "created_at",
                    JsonType(),
                    prefilled="coalesce(traits.created_at, traits.createdAt)",
                    description="Time of the sign-up",
                ),
                Property("attributes", _ATTRIBUTES, prefilled="traits", description="Attributes"),
            )
        ),
    ),
    EventType(
        id="device",
        name="Add devices",
        description="Add the device of an identified person, so that it gets push notifications",
        filter="type is 'identify' and userId is not empty and context.device.token is not empty",
        schema=ObjectType(
            (
                _ID,
                _TRAITS_EMAIL,
                Property(
                    "token", StringType(), prefilled="context.device.token", create_required=True, description="Token"
                ),
                Property(
                    "platform",
                    StringType(values=("ios", "android")),
                    prefilled="lower(context.device.type)",
                    create_required=True,
                    description="Platform: ios or android",
                ),
                *(
                    Property(name, StringType(), prefilled=path, description=text)
                    for name, (path, text) in DEVICE_ATTRIBUTES.items()
                ),
            )
        ),
    ),
    EventType(
        id="group",
        name="Add or update objects",
        description="Set attributes of the object of a group, and relate the person to it",
        filter="type is 'group' and groupId is not empty",
        schema=ObjectType(
            (
                Property(
                    "object_type_id", _IDENTIFIER, prefilled='"1"', create_required=True, description="Object type ID"
                ),
                Property("object_id", _IDENTIFIER, prefilled="groupId", create_required=True, description="Object ID"),
                _ID,
                Property("email", _EMAIL, description="Email, for people without ID"),
                Property("attributes", _ATTRIBUTES, prefilled="traits", description="Attributes of the object"),
            )
        ),
    ),
    EventType(
        id="merge",
        name="Merge people",
        description="Merge the person with the previous id into that with the user id, which must exist",
        filter="type is 'alias' and userId is not empty and previousId is not empty",
        schema=ObjectType(
            (
                Property("id", _IDENTIFIER, prefilled="userId", create_required=True, description="ID that stays"),
                Property(
                    "previous_id",
                    _IDENTIFIER,
                    prefilled="previousId",
                    create_required=True,
                    description="ID that is merged, and deleted",
                ),
            )
        ),
    ),
)

WRITABLE_SCHEMA: Final[Schema] = ObjectType(
    (
        Property("id", _IDENTIFIER, description="ID"),
        Property("email", _EMAIL, description="Email"),
        Property("created_at", DateTimeType(), nullable=True, description="Time of the sign-up"),
        Property("phone", StringType(), nullable=True, description="Phone number"),
        Property("timezone", StringType(), nullable=True, description="Time zone, as Europe/Rome"),
        Property("unsubscribed", BooleanType(), nullable=True, description="Gets no messages"),
        Property("attributes", _ATTRIBUTES, description="Other attributes"),
    )
)
