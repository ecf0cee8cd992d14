"""The event types of Amplitude, with the mappings that suit most events."""

from typing import Final

from headwater.connectors.contract import EventType
from headwater.connectors.mappings import OS_NAME, UTM
from headwater.schemas import FloatType, IntType, IpType, JsonType, MapType, ObjectType, Property, StringType

IDENTIFY: Final = "identify"


def _text(name: str, prefilled: str, description: str) -> Property:
    return Property(name, StringType(), prefilled=prefilled, description=description)


_IDENTITY: Final = (
    _text("user_id", "userId", "User ID"),
    _text("device_id", "coalesce(anonymousId, context.device.id)", "Device ID"),
)
_CONTEXT: Final = (
    Property("ip", IpType(), prefilled="context.ip", description="IP address, for the location"),
    _text("os_name", OS_NAME, "Operating system"),
    _text("os_version", "context.os.version", "Version of the operating system"),
    _text("app_version", "context.app.version", "Version of the app"),
    _text("device_manufacturer", "context.device.manufacturer", "Device manufacturer"),
    _text("device_model", "context.device.model", "Device model"),
    _text("carrier", "context.network.carrier", "Carrier"),
    _text("language", "context.locale", "Language"),
    _text("platform", "coalesce(context.device.type, if(ne(context.page.url, ''), 'Web'))", "Platform"),
)
_REVENUE: Final = (
    Property(
        "revenue",
        FloatType(64, real=True),
        # A shop may send amounts as texts, and only the total of an order.
        prefilled="coalesce(trim(properties.revenue), if(eq(event, 'Order Completed'), trim(properties.total)))",
        description="Revenue",
    ),
    _text("currency", "upper(properties.currency)", "Currency of the revenue, as EUR"),
    Property("price", FloatType(64, real=True), description="Price of one, instead of the revenue"),
    Property("quantity", IntType(32), description="Quantity"),
    _text("productId", "", "Product ID"),
    _text("revenueType", "", "Type of the revenue"),
)


def _event(name: str, *more: Property) -> ObjectType:
    """Return the schema of an event, with the suggested expression of its name."""
    return ObjectType(
        (
            Property("event_type", StringType(), prefilled=name, create_required=True, description="Event name"),
            *_IDENTITY,
            Property(
                "event_properties", MapType(JsonType()), prefilled="properties", description="Properties of the event"
            ),
            Property("user_properties", MapType(JsonType()), prefilled=UTM, description="Properties of the user"),
            Property("groups", MapType(JsonType()), description="Groups of the event, by type"),
            Property("session_id", IntType(64), description="Start of the session, in milliseconds"),
            *_CONTEXT,
            *more,
        )
    )


EVENT_TYPES: Final = (
    EventType(
        id="track",
        name="Send track events",
        description="Send track events with their properties",
        filter="type is 'track'",
        schema=_event("event", *_REVENUE),
    ),
    EventType(
        id="page",
        name="Send page events",
        description="Send views of pages",
        filter="type is 'page'",
        schema=_event('"Viewed " coalesce(name, "page")'),
    ),
    EventType(
        id="screen",
        name="Send screen events",
        description="Send views of screens",
        filter="type is 'screen'",
        schema=_event('"Viewed " coalesce(name, "screen")'),
    ),
    EventType(
        id=IDENTIFY,
        name="Set user properties",
        description="Set properties of users, without an event",
        filter="type is 'identify'",
        schema=ObjectType(
            (
                *_IDENTITY,
                Property(
                    "user_properties", MapType(JsonType()), prefilled="traits", description="Properties of the user"
                ),
                *_CONTEXT,
            )
        ),
    ),
)
