"""The schemas of contacts, with the merge fields of the audience."""

from collections.abc import Sequence
from typing import Final

import msgspec

from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTimeType,
    FloatType,
    IntType,
    ObjectType,
    Property,
    Schema,
    StringType,
    Type,
)

STATUSES: Final = ("subscribed", "unsubscribed", "pending", "transactional", "cleaned")
DEFAULT_STATUS: Final = "transactional"
"""The status of a new contact of whose consent nothing is known: it receives no marketing."""
ADDRESS_NAMES: Final = {
    "addr1": "Address, line 1",
    "addr2": "Address, line 2",
    "city": "City",
    "state": "State",
    "zip": "Postal code",
    "country": "Country (ISO 3166-1 alpha-2)",
}

_TEXT: Final = StringType()
_REQUIRED_ADDRESS_NAMES: Final = frozenset({"addr1", "city", "state", "zip"})


def _address(*, is_writable: bool) -> ObjectType:
    """Return the type of an address. Mailchimp rejects a contact with an incomplete one."""
    required = _REQUIRED_ADDRESS_NAMES if is_writable else frozenset()
    return ObjectType(
        tuple(
            Property(
                name,
                _TEXT,
                nullable=True,
                create_required=name in required,
                update_required=name in required,
                description=text,
            )
            for name, text in ADDRESS_NAMES.items()
        )
    )


class _Options(msgspec.Struct, frozen=True):
    choices: tuple[str, ...] = ()


class MergeField(msgspec.Struct):
    """A field of the audience. `tag` is its name in requests."""

    tag: str
    type: str
    name: str = ""
    required: bool = False
    options: _Options = _Options()

    def property(self, *, is_writable: bool) -> Property:
        return Property(
            self.tag,
            self._type(is_writable),
            nullable=True,
            create_required=is_writable and self.required,
            description=self.name,
        )

    def _type(self, is_writable: bool) -> Type:
        if self.type == "number":
            return FloatType(64, real=True)
        if self.type == "address":
            return _address(is_writable=is_writable)
        if self.type in ("dropdown", "radio") and self.options.choices and is_writable:
            return StringType(values=tuple(dict.fromkeys(self.options.choices)))
        return _TEXT


def with_merge_fields(schema: ObjectType, fields: Sequence[MergeField], *, is_writable: bool) -> Schema:
    """Return the schema with the fields of an audience."""
    properties = tuple(each.property(is_writable=is_writable) for each in fields)
    if not properties:
        return schema
    merge_fields = Property(
        "merge_fields",
        ObjectType(properties),
        create_required=any(each.create_required for each in properties),
        description="Merge fields",
    )
    return ObjectType((*schema.properties, merge_fields))


READABLE: Final = ObjectType(
    (
        Property("contact_id", _TEXT, description="Contact ID"),
        Property("id", _TEXT, description="MD5 hash of the email address in lower case"),
        Property("email_address", _TEXT, description="Email"),
        Property("full_name", _TEXT, nullable=True, description="Full name"),
        Property("status", _TEXT, description="Status"),
        Property("unsubscribe_reason", _TEXT, nullable=True, description="Reason to unsubscribe"),
        Property("email_type", _TEXT, nullable=True, description="Type of email"),
        Property("language", _TEXT, nullable=True, description="Language"),
        Property("vip", BooleanType(), nullable=True, description="VIP"),
        Property("member_rating", IntType(32), nullable=True, description="Rating"),
        Property("source", _TEXT, nullable=True, description="Source"),
        Property("ip_signup", _TEXT, nullable=True, description="IP address of the signup"),
        Property("timestamp_signup", DateTimeType(), nullable=True, description="Time of the signup"),
        Property("ip_opt", _TEXT, nullable=True, description="IP address of the confirmation"),
        Property("timestamp_opt", DateTimeType(), nullable=True, description="Time of the confirmation"),
        Property("last_changed", DateTimeType(), nullable=True, description="Last changed"),
        Property("tags", ArrayType(_TEXT), description="Tags"),
    )
)
WRITABLE: Final = ObjectType(
    (
        Property("email_address", StringType(), create_required=True, description="Email"),
        Property(
            "status_if_new",
            StringType(values=STATUSES[:4]),
            description=f"Status of a contact that is created. {DEFAULT_STATUS} if it is not given",
        ),
        Property("status", StringType(values=STATUSES), description="Status, also of a contact that exists"),
        Property("email_type", StringType(values=("html", "text")), description="Type of email"),
        Property("language", StringType(), description="Language"),
        Property("vip", BooleanType(), description="VIP"),
    )
)
