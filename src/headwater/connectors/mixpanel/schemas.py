"""The event types of Mixpanel, with the mappings that suit most events, and the schema of users.

A profile can have any properties. They are one map, so the schemas are the same for all projects.
"""

from typing import Final

from headwater.connectors.contract import EventType
from headwater.connectors.mappings import BROWSER_NAME, OS_NAME, UTM
from headwater.schemas import (
    ArrayType,
    DateTimeType,
    IpType,
    JsonType,
    MapType,
    ObjectType,
    Property,
    Schema,
    StringType,
)

MAX_TEXT_CHARACTERS: Final = 255
"""Mixpanel cuts longer texts."""
IDENTIFY: Final = "identify"
ORDERS: Final = ("order_completed", "product_purchased")
"""The event types of completed orders."""

_ORDER_FIELDS: Final = (
    "order_id",
    "checkout_id",
    "affiliation",
    "coupon",
    "currency",
    "total",
    "subtotal",
    "revenue",
    "discount",
    "shipping",
    "tax",
)
_ORDER: Final = "map({})".format(", ".join(f'"{name}", properties.{name}' for name in _ORDER_FIELDS))
"""The properties of an order, without its products: they are events of their own."""

CONTEXT_NAMES: Final = {
    "ip": "ip",
    "current_url": "$current_url",
    "referrer": "$referrer",
    "os": "$os",
    "os_version": "$os_version",
    "browser": "$browser",
    "browser_version": "$browser_version",
    "app_version": "$app_version_string",
    "manufacturer": "$manufacturer",
    "model": "$model",
    "carrier": "$carrier",
}
"""The names that Mixpanel has for properties of schemas."""
PROFILE_NAMES: Final = {
    "email": "$email",
    "name": "$name",
    "first_name": "$first_name",
    "last_name": "$last_name",
    "phone": "$phone",
    "avatar": "$avatar",
}
"""The names that Mixpanel reserves in profiles."""
WRITABLE_NAMES: Final = {
    **PROFILE_NAMES,
    "created": "$created",
    "city": "$city",
    "region": "$region",
    "country_code": "$country_code",
    "timezone": "$timezone",
}
"""Those of users, with the names that Mixpanel fills in from IP addresses."""


def _text(name: str, prefilled: str, description: str) -> Property:
    return Property(name, StringType(), prefilled=prefilled, description=description)


_CONTEXT: Final = (
    Property("ip", IpType(), prefilled="context.ip", description="IP address, for the location"),
    _text("current_url", "context.page.url", "Current URL"),
    _text("referrer", "context.page.referrer", "Referrer"),
    _text("os", OS_NAME, "Operating system"),
    _text("os_version", "context.os.version", "Version of the operating system"),
    _text("browser", BROWSER_NAME, "Browser"),
    _text("browser_version", "context.browser.version", "Version of the browser"),
    _text("app_version", "context.app.version", "Version of the app"),
    _text("manufacturer", "context.device.manufacturer", "Device manufacturer"),
    _text("model", "context.device.model", "Device model"),
    _text("carrier", "context.network.carrier", "Carrier"),
    Property("campaign", MapType(JsonType()), prefilled=UTM, description="UTM parameters"),
)
_PRODUCTS: Final = Property(
    "products",
    ArrayType(MapType(JsonType()), min_elements=1),
    prefilled="properties.products",
    create_required=True,
    description="Products",
)


def _event(event: str, properties: str, *more: Property) -> ObjectType:
    """Return the schema of an event, with the suggested expressions of its name and properties."""
    return ObjectType(
        (
            Property(
                "event",
                StringType(max_length=MAX_TEXT_CHARACTERS),
                prefilled=event,
                create_required=True,
                description="Event name",
            ),
            *more,
            Property("properties", MapType(JsonType()), prefilled=properties, description="Properties"),
            *_CONTEXT,
        )
    )


EVENT_TYPES: Final = (
    EventType(
        id="order_completed",
        name="Send order completed events",
        description="Send completed orders, without their products",
        filter="type is 'track' and event is 'Order Completed'",
        schema=_event('"Order Completed"', _ORDER),
    ),
    EventType(
        id="product_purchased",
        name="Send product purchased events",
        description="Send an event for each product of a completed order",
        filter="type is 'track' and event is 'Order Completed' and properties.products is not empty",
        schema=_event('"Product Purchased"', _ORDER, _PRODUCTS),
    ),
    EventType(
        id="track",
        name="Send track events",
        description="Send track events with their properties",
        filter="type is 'track' and event is not 'Order Completed'",
        schema=_event("event", "properties"),
    ),
    EventType(
        id="page",
        name="Send page events",
        description="Send views of pages",
        filter="type is 'page'",
        schema=_event('"Viewed " coalesce(name, "page")', "properties"),
    ),
    EventType(
        id="screen",
        name="Send screen events",
        description="Send views of screens",
        filter="type is 'screen'",
        schema=_event('"Viewed " coalesce(name, "screen")', "properties"),
    ),
    EventType(
        id=IDENTIFY,
        name="Set profiles",
        description="Set properties of the profiles of identified users",
        filter="type is 'identify'",
        schema=ObjectType(
            (
                _text("email", "traits.email", "Email"),
                _text("name", "traits.name", "Name"),
                _text("first_name", "coalesce(traits.firstName, traits.first_name)", "First name"),
                _text("last_name", "coalesce(traits.lastName, traits.last_name)", "Last name"),
                _text("phone", "traits.phone", "Phone, with + and the country code"),
                _text("avatar", "traits.avatar", "URL of a picture"),
                Property("properties", MapType(JsonType()), prefilled="traits", description="Properties"),
            )
        ),
    ),
)

_DETAILS: Final = {
    "email": "Email",
    "name": "Name",
    "first_name": "First name",
    "last_name": "Last name",
    "phone": "Phone, with + and the country code",
    "avatar": "URL of a picture",
    "city": "City",
    "region": "Region",
    "country_code": "Country, as DE",
    "timezone": "Time zone, as Europe/Rome",
}
WRITABLE_SCHEMA: Final[Schema] = ObjectType(
    (
        Property(
            "distinct_id",
            StringType(max_length=MAX_TEXT_CHARACTERS),
            create_required=True,
            description="Distinct ID, which is the user ID of events",
        ),
        *(Property(name, StringType(), nullable=True, description=text) for name, text in _DETAILS.items()),
        Property("created", DateTimeType(), nullable=True, description="Time of the sign-up"),
        Property("properties", MapType(JsonType()), description="Properties"),
    )
)
