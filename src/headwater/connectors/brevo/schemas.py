"""The event types of Brevo, with the mappings that suit most events, and the schemas of an account's contacts.

An account has a list of attributes, and a contact has no others. So the schemas depend on the account, and a pipeline
stops only if a person deletes an attribute that it uses.
"""

from collections.abc import Iterable
from datetime import date
from typing import Any, Final

import msgspec

from headwater.connectors.contract import EventType
from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTimeType,
    DateType,
    FloatType,
    IntType,
    JsonType,
    MapType,
    ObjectType,
    Property,
    Schema,
    StringType,
    Type,
    Value,
    is_property_name,
    suggest_property_name,
)

MAX_NAME_CHARACTERS: Final = 255

_IDENTIFIER: Final = StringType(max_length=255)
_EMAIL_TYPE: Final = StringType(max_length=254)
_PHONE: Final = StringType(max_bytes=20, pattern=r"^(\+|00)?[1-9][0-9]{5,14}$")
_EMAIL: Final = "coalesce(traits.email, properties.email)"


def _event(*identity: Property) -> ObjectType:
    """Return the schema of an event with the members that identify its contact."""
    return ObjectType(
        (
            Property(
                "event_name",
                StringType(max_length=MAX_NAME_CHARACTERS),
                prefilled="coalesce(event, name, type)",
                create_required=True,
                description="Event name",
            ),
            *identity,
            Property("event_properties", MapType(JsonType()), prefilled="properties", description="Properties"),
            Property(
                "contact_properties", MapType(JsonType()), description="Attributes of the contact that are updated"
            ),
        )
    )


CREATE_EVENT: Final = EventType(
    id="create_event",
    name="Create event",
    description="Create an event of the contact with an e-mail address",
    filter="traits.email is not empty or properties.email is not empty",
    schema=_event(
        Property("email_id", _EMAIL_TYPE, prefilled=_EMAIL, create_required=True, description="Email"),
    ),
)
CREATE_USER_EVENT: Final = EventType(
    id="create_user_event",
    name="Create event of a user",
    description="Create an event of the contact with any of the identifiers that are given",
    filter="type is one of 'track', 'page', 'screen' and userId is not empty",
    schema=_event(
        Property("email_id", _EMAIL_TYPE, prefilled=_EMAIL, description="Email"),
        Property("ext_id", _IDENTIFIER, prefilled="userId", description="External ID"),
        Property("phone_id", _PHONE, description="Phone number with the country code"),
        Property("contact_id", IntType(64, minimum=1), description="Brevo ID"),
    ),
)
EVENT_TYPES: Final = (CREATE_EVENT, CREATE_USER_EVENT)

_TEXT: Final = StringType()
_FIXED: Final = ("EMAIL", "EXT_ID")
"""Attributes that are properties of their own."""
_TYPES: Final[dict[str, Type]] = {
    "text": _TEXT,
    "float": FloatType(64, real=True),
    "date": DateType(),
    "boolean": BooleanType(),
    "multiple-choice": ArrayType(_TEXT),
}


class Choice(msgspec.Struct, frozen=True):
    """One value of an attribute of the category "category"."""

    value: int
    label: str


class Attribute(msgspec.Struct, frozen=True):
    """One attribute of an account's contacts."""

    name: str
    category: str
    type: str = ""
    enumeration: tuple[Choice, ...] = ()

    @property
    def is_choice(self) -> bool:
        return self.category == "category"

    def to_property(self) -> Property | None:
        """Return the property of the attribute; None if it belongs to the account, or has another form."""
        name = suggest_property_name(self.name)
        type_ = IntType(64) if self.is_choice else _TYPES.get(self.type) if self.category == "normal" else None
        if name is None or type_ is None or self.name in _FIXED or name in _NAMES:
            return None
        choices = ", ".join(f"{each.value} is {each.label}" for each in self.enumeration)
        return Property(name, type_, nullable=True, description=f"{self.name}: {choices}"[:250] if choices else "")

    def read(self, value: Any) -> Value:
        """Return a value of a contact. Raises ValueError, TypeError for one of another type."""
        if value is None or value == "":
            return None
        if self.is_choice:
            labels = {each.label: each.value for each in self.enumeration}
            return labels[value] if value in labels else int(value)
        if self.type == "text":
            return value if isinstance(value, str) else msgspec.json.encode(value).decode()
        if self.type == "float":
            return float(value)
        if self.type == "date":
            return date.fromisoformat(str(value)[:10])
        if self.type == "multiple-choice":
            return [str(each) for each in value]
        if not isinstance(value, bool):
            raise TypeError(f"{self.name} is no boolean")
        return value


_NAMES: Final = frozenset(
    {"id", "email", "ext_id", "email_blacklisted", "sms_blacklisted", "list_ids", "created_at", "modified_at"}
)


def attributes_by_property(attributes: Iterable[Attribute]) -> dict[str, tuple[Property, Attribute]]:
    """Return the attributes that users have, by the name of their property; the first one of equal names."""
    found: dict[str, tuple[Property, Attribute]] = {}
    for attribute in attributes:
        property_ = attribute.to_property()
        if property_ is not None:
            found.setdefault(property_.name, (property_, attribute))
    return found


def readable_schema(attributes: dict[str, tuple[Property, Attribute]]) -> Schema:
    return ObjectType(
        (
            Property("id", _TEXT, description="Brevo ID"),
            Property("email", _TEXT, nullable=True, description="Email"),
            Property("ext_id", _TEXT, nullable=True, description="External ID"),
            Property("email_blacklisted", BooleanType(), description="Receives no marketing by email"),
            Property("sms_blacklisted", BooleanType(), description="Receives no marketing by SMS"),
            Property("list_ids", ArrayType(IntType(64)), description="IDs of the contact's lists"),
            Property("created_at", DateTimeType(), nullable=True, description="Created"),
            Property("modified_at", DateTimeType(), nullable=True, description="Modified"),
            *(property_ for property_, _ in attributes.values()),
        )
    )


def writable_schema(attributes: dict[str, tuple[Property, Attribute]]) -> Schema:
    """Return the schema of contacts that are written. Attributes whose name is no name of a property are only read."""
    return ObjectType(
        (
            Property("email", _EMAIL_TYPE, description="Email"),
            Property("ext_id", _IDENTIFIER, description="External ID"),
            Property("email_blacklisted", BooleanType(), description="Receives no marketing by email"),
            Property("sms_blacklisted", BooleanType(), description="Receives no marketing by SMS"),
            *(property_ for property_, attribute in attributes.values() if is_property_name(attribute.name)),
        )
    )
