"""The event types of Braze, with the mappings that suit most events, and the schema of users.

A user can have any custom attributes. Those that a workspace lists are properties, and all of them can be in a map.
"""

from collections.abc import Iterable
from typing import Final

import msgspec

from headwater.connectors.braze.api import MAX_NAME_CHARACTERS
from headwater.connectors.braze.commerce import STEPS
from headwater.connectors.braze.objects import RESERVED_NAMES
from headwater.connectors.contract import EventType
from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTimeType,
    DateType,
    FloatType,
    JsonType,
    MapType,
    ObjectType,
    Property,
    Schema,
    StringType,
    Type,
    is_property_name,
)

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


_STEP_NAMES: Final = ", ".join(f"'{name}'" for name in STEPS)
_AMOUNT: Final = FloatType(64, real=True)


def _text(name: str, prefilled: str, description: str) -> Property:
    return Property(name, _TEXT, prefilled=prefilled, description=description)


def _required(name: str, type_: Type, prefilled: str, description: str) -> Property:
    return Property(name, type_, prefilled=prefilled, create_required=True, description=description)


def _amount(name: str, path: str, description: str) -> Property:
    """Return the property of an amount, which an event may have as a text."""
    return Property(name, _AMOUNT, prefilled=f"trim({path})", description=description)


_CURRENCY: Final = _required("currency", StringType(max_bytes=3), "upper(properties.currency)", "Currency")


def _event(name: str) -> ObjectType:
    """Return the schema of an event, with the suggested expression of its name."""
    return ObjectType(
        (
            _required("name", _NAME, name, "Event name"),
            *_IDENTITY,
            Property("properties", _MAP, prefilled="properties", description="Properties"),
        )
    )


EVENT_TYPES: Final = (
    EventType(
        id="event",
        name="Send custom events",
        description="Send track events with their properties",
        filter=f"type is 'track' and event is not one of {_STEP_NAMES}",
        schema=_event("event"),
    ),
    EventType(
        id="ecommerce",
        name="Send eCommerce events",
        description="Send views of products, changes of carts, and orders as Braze's eCommerce events",
        filter=f"type is 'track' and event is one of {_STEP_NAMES}",
        schema=ObjectType(
            (
                _required("event", StringType(values=tuple(STEPS)), "event", "Event name, such as Order Completed"),
                _CURRENCY,
                _required(
                    "source",
                    _TEXT,
                    'coalesce(context.device.type, channel, "web")',
                    "Source of the event, such as web or ios",
                ),
                *_IDENTITY,
                _text("order_id", "properties.order_id", "Order ID"),
                _text("checkout_id", "coalesce(properties.checkout_id, properties.order_id)", "Checkout ID"),
                _text("cart_id", "coalesce(properties.cart_id, anonymousId, userId)", "Cart ID"),
                _amount(
                    "total_value",
                    "coalesce(properties.total, properties.value, properties.revenue)",
                    "Value of the cart, the order or the refund",
                ),
                _amount("subtotal_value", "properties.subtotal", "Value without tax and shipping"),
                _amount("tax", "properties.tax", "Tax"),
                _amount("shipping", "properties.shipping", "Shipping"),
                _amount("total_discounts", "properties.discount", "Discount"),
                _text(
                    "cancel_reason",
                    'coalesce(properties.cancel_reason, properties.reason, "unknown")',
                    "Reason of a cancellation",
                ),
                Property("products", JsonType(), prefilled="properties.products", description="Products"),
                Property(
                    "product", JsonType(), prefilled="properties", description="Product of an event about a single one"
                ),
                Property(
                    "metadata",
                    _MAP,
                    prefilled='map("affiliation", properties.affiliation, "coupon", properties.coupon)',
                    description="Other properties of the event",
                ),
            )
        ),
    ),
    EventType(
        id="purchase",
        name="Send purchases",
        description="Send a purchase for each product of a completed order, to an account that has no eCommerce events",
        filter="type is 'track' and event is 'Order Completed' and properties.products is not empty",
        schema=ObjectType(
            (
                _required("products", JsonType(), "properties.products", "Products"),
                _CURRENCY,
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
                _text("home_city", "traits.address.city", "City"),
                _text("country", "traits.address.country", "Country"),
                _text("gender", "traits.gender", "Gender"),
                _text("dob", "substring(traits.birthday, 1, 10)", "Date of birth, as 1990-12-21"),
                Property("custom_attributes", _MAP, prefilled="traits", description="Custom attributes"),
            )
        ),
    ),
    EventType(
        id="identify",
        name="Identify anonymous users",
        description="Merge the user with the alias of an anonymous id into the identified user",
        filter="type is 'identify' and userId is not empty and anonymousId is not empty",
        schema=ObjectType(
            (
                _required("external_id", _EXTERNAL_ID, "userId", "External ID of the user that stays"),
                _required("alias_name", _NAME, "anonymousId", "Alias of the user that is merged"),
            )
        ),
    ),
    EventType(
        id="merge",
        name="Merge users",
        description="Merge the user with the previous id into that with the user id, which must exist",
        filter="type is 'alias' and userId is not empty and previousId is not empty",
        schema=ObjectType(
            (
                _required("external_id", _EXTERNAL_ID, "userId", "External ID of the user that stays"),
                _required("previous_id", _EXTERNAL_ID, "previousId", "External ID of the user that is merged"),
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
MAP_NAME: Final = "custom_attributes"
WRITABLE: Final[Schema] = ObjectType(
    (
        Property("external_id", _EXTERNAL_ID, description="External ID"),
        Property("email", _EMAIL, description="Email"),
        Property("phone", _PHONE, description="Phone number (E.164)"),
        *(Property(name, _TEXT, nullable=True, description=text) for name, text in _DETAILS.items()),
        Property("dob", DateType(), nullable=True, description="Date of birth"),
        Property(MAP_NAME, _MAP, description="Custom attributes"),
    )
)
_TYPES: Final[dict[str, Type]] = {
    "string": _TEXT,
    "number": FloatType(64, real=True),
    "boolean": BooleanType(),
    "date": DateTimeType(),
    "time": DateTimeType(),
    "array": ArrayType(JsonType()),
    "object": _MAP,
    "object array": ArrayType(_MAP),
}
"""The types of custom attributes, as Braze calls them in lower case, without "(Automatically Detected)"."""


class CustomAttribute(msgspec.Struct):
    """A custom attribute of a workspace. Braze ignores one that is blocklisted."""

    name: str
    data_type: str | None = None
    status: str | None = None

    @property
    def is_blocklisted(self) -> bool:
        return (self.status or "").lower() == "blocklisted"

    @property
    def type(self) -> Type:
        """Return the type of its values; any JSON for a type that is not known."""
        words = (self.data_type or "").lower().replace("_", " ").partition("(")[0]
        return _TYPES.get(words.strip(), JsonType())


def with_custom_attributes(attributes: Iterable[CustomAttribute]) -> Schema:
    """Return the schema of a workspace, without the attributes whose name cannot be that of a property."""
    properties = dict(WRITABLE.by_name)
    for each in attributes:
        if is_property_name(each.name) and each.name not in RESERVED_NAMES and not each.is_blocklisted:
            properties.setdefault(each.name, Property(each.name, each.type, nullable=True, description=each.name))
    return ObjectType(tuple(properties.values()))
