"""The schemas of the dummy's users and events: properties that are required, missing or null in every combination."""

from typing import Final

from headwater.connectors.contract import EventType
from headwater.schemas import IntType, JsonType, MapType, ObjectType, Property, Schema, StringType, Type

_TEXT: Final = StringType()


def _object(**types: Type) -> ObjectType:
    return ObjectType(tuple(Property(name, type_) for name, type_ in types.items()))


_ADDRESS: Final = ObjectType(
    (Property("street", _TEXT), Property("postal_code", _TEXT), Property("city", _TEXT, nullable=True))
)


def _customer(*, read: bool) -> tuple[Property, ...]:
    return (
        Property("email", _TEXT, description="Email"),
        Property("firstName", _TEXT, description="First name"),
        Property("lastName", _TEXT, nullable=True, description="Last name"),
        Property("fullName", _TEXT, description="Full name"),
        Property(
            "favouriteDrink",
            StringType(values=("tea", "beer", "wine", "water")),
            nullable=True,
            description="Favourite drink",
        ),
        Property("favourite_movie", _TEXT, read_optional=read, description="Favourite movie"),
        Property("address", _ADDRESS, nullable=True, description="Address"),
    )


READABLE_SCHEMA: Final[Schema] = ObjectType(
    (Property("dummyId", _TEXT, description="Dummy Unique ID"), *_customer(read=True))
)
WRITABLE_SCHEMA: Final[Schema] = ObjectType(
    (
        *_customer(read=False),
        Property("additionalProperties", MapType(_TEXT), description="Additional properties"),
    )
)


def _event_type(id_: str, name: str, schema: ObjectType | None) -> EventType:
    return EventType(id=id_, name=name, description=f"{name} to Dummy", filter="", schema=schema)


_EMAIL: Final = Property("email", _TEXT, prefilled="coalesce(traits.email, properties.email)", create_required=True)
_NAMED_EVENT: Final = _object(eventName=_TEXT, attributes=MapType(JsonType()))

EVENT_TYPES: Final = (
    _event_type(
        "send_add_to_cart",
        "Send Add to Cart",
        ObjectType(
            (
                _EMAIL,
                Property("itemName", _TEXT, prefilled="properties.name"),
                Property("itemId", IntType(32)),
            )
        ),
    ),
    _event_type("send_custom_event", "Send custom event", _object(email=_TEXT)),
    _event_type(
        "send_identity",
        "Send Identity",
        ObjectType(
            (
                _EMAIL,
                Property("traits", _object(address=_object(street1=_TEXT, street2=_TEXT))),
            )
        ),
    ),
    _event_type("send_generic_event", "Send generic event", _object(properties=JsonType())),
    _event_type("send_event_with_no_schema", "Send event with no schema", None),
    _event_type("addToCart", "Send additions to carts", _NAMED_EVENT),
    _event_type("page_view", "Send page views", _NAMED_EVENT),
)
