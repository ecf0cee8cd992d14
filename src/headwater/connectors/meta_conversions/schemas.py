"""The event types of Meta: its standard events, with the mappings that suit the e-commerce events of SDKs."""

from typing import Final

from headwater.connectors.contract import EventType
from headwater.connectors.eventvalues import NUMBER
from headwater.connectors.meta_conversions.api import MAX_EVENT_NAME_CHARACTERS
from headwater.schemas import (
    ArrayType,
    BooleanType,
    IntType,
    IpType,
    JsonType,
    MapType,
    ObjectType,
    Property,
    StringType,
)

ACTION_SOURCES: Final = (
    "website",
    "app",
    "email",
    "phone_call",
    "chat",
    "physical_store",
    "system_generated",
    "other",
)
"""The sources of actions, except `business_messaging`, which needs further members."""

_TEXT: Final = StringType()


def _text(name: str, description: str, prefilled: str = "") -> Property:
    return Property(name, _TEXT, prefilled=prefilled, description=description)


_EVENT: Final = (
    _text("event_id", "Event ID, by which Meta recognises the event of the pixel", "messageId"),
    Property("action_source", StringType(values=ACTION_SOURCES), description="Place of the action"),
    _text("event_source_url", "URL of the page", "context.page.url"),
)
_USER: Final = (
    _text("em", "Email", "coalesce(traits.email, properties.email)"),
    _text("ph", "Phone number, with the country code", "coalesce(traits.phone, properties.phone)"),
    _text("external_id", "External ID", "coalesce(userId, anonymousId)"),
    _text("fn", "First name", "traits.firstName"),
    _text("ln", "Last name", "traits.lastName"),
    _text("ge", "Gender", "traits.gender"),
    _text("db", "Date of birth", "traits.birthday"),
    _text("ct", "City", "traits.address.city"),
    _text("st", "State", "traits.address.state"),
    _text("zp", "Postal code", "traits.address.postalCode"),
    _text("country", "Country, two letters", "traits.address.country"),
    Property("client_ip_address", IpType(), prefilled="context.ip", description="IP address"),
    _text("client_user_agent", "User agent", "context.userAgent"),
    _text("fbc", "Click ID", "properties.fbc"),
    _text("fbp", "Browser ID", "properties.fbp"),
    _text("subscription_id", "Subscription ID"),
)
_APP: Final = (
    Property(
        "advertiser_tracking_enabled",
        BooleanType(),
        prefilled="context.device.adTrackingEnabled",
        description="Whether the device permits tracking, for events of apps",
    ),
    Property(
        "application_tracking_enabled",
        BooleanType(),
        prefilled="context.device.adTrackingEnabled",
        description="Whether the user permits tracking in the app, for events of apps",
    ),
    _text("madid", "Advertising ID of the device, for events of apps", "context.device.advertisingId"),
    _text("anon_id", "Installation ID, for events of apps"),
)
_PRIVACY: Final = (
    Property("data_processing_options", ArrayType(_TEXT), description="Data processing options, such as LDU"),
    Property("data_processing_options_country", IntType(32), description="Country of the options"),
    Property("data_processing_options_state", IntType(32), description="State of the options"),
)
CUSTOM_DATA: Final = (
    "value",
    "currency",
    "content_ids",
    "content_name",
    "content_category",
    "content_type",
    "contents",
    "num_items",
    "order_id",
    "search_string",
)
"""The standard properties of an event, in `custom_data`."""


def _data(*, contents: str, is_purchase: bool) -> tuple[Property, ...]:
    price = "" if contents else ", properties.price"  # the value of products is the sum of their prices
    value = f"coalesce(properties.value, properties.total, properties.revenue{price})"
    return (
        Property("value", NUMBER, prefilled=value, create_required=is_purchase, description="Value"),
        Property(
            "currency", _TEXT, prefilled="properties.currency", create_required=is_purchase, description="Currency"
        ),
        Property("content_ids", ArrayType(_TEXT), description="Product IDs"),
        _text("content_name", "Name of the page or product", "properties.name"),
        _text("content_category", "Category", "properties.category"),
        _text("content_type", "product, or product_group"),
        Property("contents", JsonType(), prefilled=contents, description="Products"),
        Property("num_items", NUMBER, description="Number of items"),
        _text("order_id", "Order ID", "coalesce(properties.order_id, properties.orderId)"),
        _text("search_string", "Search string", "properties.query"),
        Property("custom_data", MapType(JsonType()), description="Further properties"),
    )


def _type(
    id_: str, description: str, filter_: str, *, contents: str = "", name: tuple[Property, ...] = ()
) -> EventType:
    return EventType(
        id=id_,
        name=id_,
        description=description,
        filter=filter_,
        schema=ObjectType(
            (*name, *_EVENT, *_USER, *_data(contents=contents, is_purchase=id_ == "Purchase"), *_APP, *_PRIVACY)
        ),
    )


def _track(id_: str, event: str, *, contents: str = "") -> EventType:
    return _type(id_, f"Send {event} as {id_}", f"type is 'track' and event is '{event}'", contents=contents)


CUSTOM: Final = "Custom"
_PRODUCTS: Final = "properties.products"
EVENT_TYPES: Final = (
    _track("Purchase", "Order Completed", contents=_PRODUCTS),
    _track("InitiateCheckout", "Checkout Started", contents=_PRODUCTS),
    _track("AddPaymentInfo", "Payment Info Entered", contents=_PRODUCTS),
    _track("AddToCart", "Product Added", contents="properties"),
    _track("AddToWishlist", "Product Added to Wishlist", contents="properties"),
    _track("ViewContent", "Product Viewed", contents="properties"),
    _track("Search", "Products Searched"),
    _track("Lead", "Lead Generated"),
    _track("CompleteRegistration", "Signed Up"),
    _track("StartTrial", "Trial Started"),
    _track("Subscribe", "Subscription Started"),
    _type("PageView", "Send the view of a page", "type is 'page'"),
    _type(
        CUSTOM,
        "Send the event under its own name, or as another standard event",
        "type is 'track'",
        contents=_PRODUCTS,
        name=(
            Property(
                "event_name",
                StringType(max_length=MAX_EVENT_NAME_CHARACTERS),
                prefilled="event",
                create_required=True,
                description="Event name",
            ),
        ),
    ),
)
