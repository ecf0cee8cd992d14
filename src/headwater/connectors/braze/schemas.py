"""The event types of Braze, with the mappings that suit most events, and the schema of users.

A user can have any custom attributes. They are one map, so the schemas are the same for all workspaces.
"""

from typing import Final

from headwater.connectors.braze.api import MAX_NAME_CHARACTERS
from headwater.connectors.contract import EventType
from headwater.schemas import ArrayType, DateType, JsonType, MapType, ObjectType, Property, Schema, StringType

MAX_EXTERNAL_ID_BYTES: Final = 997
MAX_EMAIL_BYTES: Final = 254

_TEXT: Final = StringType()
_NAME: Final = StringType(max_length=MAX_NAME_CHARACTERS)
_EXTERNAL_ID: Final = StringType(max_bytes=MAX_EXTERNAL_ID_BYTES)
_EMAIL: Final = StringType(max_bytes=MAX_EMAIL_BYTES)
_PHONE: Final = StringType(max_bytes=16, pattern=r"^\+[1-9][0-9]{6,14}$")
_MAP: Final = MapType(JsonType())
_IDENTITY: Final = (
    Property("external_id", _EXTERNAL_ID, prefilled="userId", description="External ID"),
    Property("email", _EMAIL, description="Email, for users without external ID"),
    Property("phone", _PHONE, description="Phone number (E.164), for users without external ID and email"),
    Property("alias_name", _NAME, prefilled="anonymousId", description="Alias, for users without any other identifier"),
)
_ORDER_FIELDS: Final = ("order_id", "affiliation", "coupon", "total", "discount", "shipping", "tax")


def _event(name: str) -> ObjectType:
    """Return the schema of an event, with the suggested expression of its name."""
    return ObjectType(
        (
            Property("name", _NAME, prefilled=name, create_required=True, description="Event name"),
            *_IDENTITY,
            Property("properties", _MAP, prefilled="properties", description="Properties"),
        )
    )


EVENT_TYPES: Final = (
    EventType(
        id="event",
        name="Send custom events",
        description="Send track events with their properties",
        filter="type is 'track' and event is not 'Order Completed'",
        schema=_event("event"),
    ),
    EventType(
        id="purchase",
        name="Send purchases",
        description="Send a purchase for each product of a completed order",
        filter="type is 'track' and event is 'Order Completed' and properties.products is not empty",
        schema=ObjectType(
            (
                Property(
                    "products",
                    ArrayType(_MAP, min_elements=1),
                    prefilled="properties.products",
                    create_required=True,
                    description="Products",
                ),
                Property(
                    "currency",
                    StringType(max_bytes=3),
                    prefilled="properties.currency",
                    create_required=True,
                    description="Currency",
                ),
                *_IDENTITY,
                Property(
                    "properties",
                    _MAP,
                    prefilled="map({})".format(", ".join(f'"{name}", properties.{name}' for name in _ORDER_FIELDS)),
                    description="Properties of each purchase",
                ),
            )
        ),
    ),
    EventType(
        id="page",
        name="Send page views",
        description="Send views of pages as custom events",
        filter="type is 'page'",
        schema=_event('"Viewed " coalesce(name, "page")'),
    ),
    EventType(
        id="screen",
        name="Send screen views",
        description="Send views of screens as custom events",
        filter="type is 'screen'",
        schema=_event('"Viewed " coalesce(name, "screen")'),
    ),
    EventType(
        id="attributes",
        name="Set attributes of users",
        description="Set attributes of identified users",
        filter="type is 'identify' and userId is not empty",
        schema=ObjectType(
            (
                Property("external_id", _EXTERNAL_ID, prefilled="userId", description="External ID"),
                Property("email", _EMAIL, prefilled="traits.email", description="Email"),
                Property("phone", _PHONE, description="Phone number (E.164)"),
                Property(
                    "first_name",
                    _TEXT,
                    prefilled="coalesce(traits.firstName, traits.first_name)",
                    description="First name",
                ),
                Property(
                    "last_name", _TEXT, prefilled="coalesce(traits.lastName, traits.last_name)", description="Last name"
                ),
                Property("custom_attributes", _MAP, prefilled="traits", description="Custom attributes"),
            )
        ),
    ),
)

_DETAILS: Final = {
    "first_name": "First name",
    "last_name": "Last name",
    "country": "Country, as DE",
    "home_city": "City",
    "language": "Language, as de",
    "gender": "Gender: M, F, O, N or P",
    "time_zone": "Time zone, as Europe/Rome",
    "email_subscribe": "Email subscription: opted_in, subscribed or unsubscribed",
    "push_subscribe": "Push subscription: opted_in, subscribed or unsubscribed",
}
WRITABLE_SCHEMA: Final[Schema] = ObjectType(
    (
        Property("external_id", _EXTERNAL_ID, description="External ID"),
        Property("email", _EMAIL, description="Email"),
        Property("phone", _PHONE, description="Phone number (E.164)"),
        *(Property(name, _TEXT, nullable=True, description=text) for name, text in _DETAILS.items()),
        Property("dob", DateType(), nullable=True, description="Date of birth"),
        Property("custom_attributes", _MAP, description="Custom attributes"),
    )
)
