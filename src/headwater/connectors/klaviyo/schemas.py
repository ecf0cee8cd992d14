"""The event types of Klaviyo, with the mappings that suit most events."""

from typing import Final

from headwater.connectors.contract import EventType
from headwater.schemas import FloatType, JsonType, MapType, ObjectType, Property, StringType

MAX_EMAIL_BYTES: Final = 100
MAX_METRIC_CHARACTERS: Final = 200
MAX_IDENTIFIER_CHARACTERS: Final = 255

_IDENTIFIER: Final = StringType(max_length=MAX_IDENTIFIER_CHARACTERS)
_EMAIL: Final = "coalesce(traits.email, properties.email)"


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
                prefilled="coalesce(properties.value, properties.total, properties.revenue)",
                description="Value",
            ),
            Property(
                "value_currency", StringType(max_bytes=3), prefilled="properties.currency", description="Currency"
            ),
            Property("properties", MapType(JsonType()), prefilled="properties", description="Properties"),
        )
    )


CREATE_EVENT: Final = EventType(
    id="create_event",
    name="Create event",
    description="Create an event of the profile with an e-mail address",
    filter="",
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
    filter="",
    schema=_event(
        Property(
            "external_id",
            StringType(max_length=MAX_IDENTIFIER_CHARACTERS),
            prefilled="userId",
            description="External ID",
        ),
        Property("email", StringType(max_bytes=MAX_EMAIL_BYTES), prefilled=_EMAIL, description="Email"),
        Property(
            "phone_number",
            StringType(max_bytes=16, pattern=r"^\+[1-9][0-9]{6,14}$"),
            description="Phone number (E.164)",
        ),
        Property(
            "anonymous_id",
            StringType(max_length=MAX_IDENTIFIER_CHARACTERS),
            prefilled="anonymousId",
            description="Anonymous ID",
        ),
    ),
)
EVENT_TYPES: Final = (CREATE_EVENT, CREATE_USER_EVENT)
