"""The event types of Klaviyo, with the mappings that suit most events, and the schemas of profiles.

Klaviyo has no list of an account's custom properties, and a profile can have any. So they are one map, and the schemas
are the same for all accounts.
"""

from typing import Final

from headwater.connectors.contract import EventType
from headwater.schemas import DateTimeType, FloatType, JsonType, MapType, ObjectType, Property, Schema, StringType

MAX_EMAIL_BYTES: Final = 100
MAX_METRIC_CHARACTERS: Final = 127
MAX_IDENTIFIER_CHARACTERS: Final = 255

_IDENTIFIER: Final = StringType(max_length=MAX_IDENTIFIER_CHARACTERS)
_PHONE: Final = StringType(max_bytes=16, pattern=r"^\+[1-9][0-9]{6,14}$")
_EMAIL: Final = "coalesce(traits.email, properties.email)"
_FILTER: Final = "type is 'track'"


def _event(*identity: Property) -> ObjectType:
    """Return the schema of an event with the members that identify its user."""
    return ObjectType(
        (
            Property(
                "metric_name",
                StringType(max_length=MAX_METRIC_CHARACTERS),
                prefilled="coalesce(event, name, type)",
                create_required=True,
                description="Metric name",
            ),
            *identity,
            Property(
                "value",
                FloatType(64, real=True),
                prefilled="trim(coalesce(properties.value, properties.total, properties.revenue))",
                description="Value",
            ),
            Property(
                "value_currency",
                StringType(max_bytes=3),
                prefilled="upper(properties.currency)",
                description="Currency",
            ),
            Property("properties", MapType(JsonType()), prefilled="properties", description="Properties"),
        )
    )


CREATE_EVENT: Final = EventType(
    id="create_event",
    name="Create event",
    description="Create an event of the profile with an e-mail address",
    filter=_FILTER,
    schema=_event(
        Property(
            "email",
            StringType(max_bytes=MAX_EMAIL_BYTES),
            prefilled=_EMAIL,
            create_required=True,
            description="Email",
        )
    ),
)
CREATE_USER_EVENT: Final = EventType(
    id="create_user_event",
    name="Create event of a user",
    description="Create an event of the profile with any of the identifiers that are given",
    filter=_FILTER,
    schema=_event(
        Property(
            "external_id",
            StringType(max_length=MAX_IDENTIFIER_CHARACTERS),
            prefilled="userId",
            description="External ID",
        ),
        Property("email", StringType(max_bytes=MAX_EMAIL_BYTES), prefilled=_EMAIL, description="Email"),
        Property("phone_number", _PHONE, description="Phone number (E.164)"),
        Property(
            "anonymous_id",
            StringType(max_length=MAX_IDENTIFIER_CHARACTERS),
            prefilled="anonymousId",
            description="Anonymous ID",
        ),
    ),
)
EVENT_TYPES: Final = (CREATE_EVENT, CREATE_USER_EVENT)

_TEXT: Final = StringType()
LOCATION_NAMES: Final = {
    "address1": "Address, line 1",
    "address2": "Address, line 2",
    "city": "City",
    "region": "Region",
    "zip": "Postal code",
    "country": "Country",
    "latitude": "Latitude",
    "longitude": "Longitude",
    "timezone": "Time zone",
}
TEXT_NAMES: Final = {
    "first_name": "First name",
    "last_name": "Last name",
    "organization": "Organization",
    "title": "Title",
    "image": "URL of an image",
    "locale": "Locale",
}
_DETAILS: Final = (
    *(Property(name, _TEXT, nullable=True, description=text) for name, text in TEXT_NAMES.items()),
    Property(
        "location",
        ObjectType(
            tuple(Property(name, _TEXT, nullable=True, description=text) for name, text in LOCATION_NAMES.items())
        ),
        nullable=True,
        description="Location",
    ),
)

READABLE_SCHEMA: Final[Schema] = ObjectType(
    (
        Property("id", _TEXT, description="Klaviyo ID"),
        Property("email", _TEXT, nullable=True, description="Email"),
        Property("phone_number", _TEXT, nullable=True, description="Phone number"),
        Property("external_id", _TEXT, nullable=True, description="External ID"),
        *_DETAILS,
        Property("created", DateTimeType(), nullable=True, description="Created"),
        Property("updated", DateTimeType(), nullable=True, description="Updated"),
        Property("last_event_date", DateTimeType(), nullable=True, description="Time of the last event"),
        Property("email_consent", _TEXT, nullable=True, description="Consent to marketing by email"),
        Property("sms_consent", _TEXT, nullable=True, description="Consent to marketing by SMS"),
        Property("properties", MapType(JsonType()), description="Custom properties"),
    )
)
WRITABLE_SCHEMA: Final[Schema] = ObjectType(
    (
        Property("email", StringType(max_bytes=MAX_EMAIL_BYTES), description="Email"),
        Property("phone_number", _PHONE, description="Phone number (E.164)"),
        Property("external_id", _IDENTIFIER, description="External ID"),
        *_DETAILS,
        Property("properties", MapType(JsonType()), description="Custom properties"),
    )
)
