"""The schemas of subscribers, with the fields of the account."""

from collections.abc import Sequence
from typing import Final

import msgspec

from headwater.schemas import DateTimeType, FloatType, IntType, ObjectType, Property, Schema, StringType, Type

STATUSES: Final = ("active", "unsubscribed", "unconfirmed", "bounced", "junk")

_TEXT: Final = StringType()


class Field(msgspec.Struct):
    """A field of the account. `key` is its name in requests."""

    key: str
    type: str
    name: str = ""

    @property
    def schema_type(self) -> Type:
        return FloatType(64, real=True) if self.type == "number" else _TEXT


def with_fields(schema: ObjectType, fields: Sequence[Field]) -> Schema:
    """Return the schema with the fields of an account."""
    if not fields:
        return schema
    properties = tuple(Property(each.key, each.schema_type, nullable=True, description=each.name) for each in fields)
    return ObjectType((*schema.properties, Property("fields", ObjectType(properties), description="Fields")))


READABLE: Final = ObjectType(
    (
        Property("id", _TEXT, description="Subscriber ID"),
        Property("email", _TEXT, description="Email"),
        Property("status", _TEXT, description="Status"),
        Property("source", _TEXT, nullable=True, description="Source"),
        Property("sent", IntType(64), nullable=True, description="Emails sent"),
        Property("opens_count", IntType(64), nullable=True, description="Opens"),
        Property("clicks_count", IntType(64), nullable=True, description="Clicks"),
        Property("ip_address", _TEXT, nullable=True, description="IP address"),
        Property("optin_ip", _TEXT, nullable=True, description="IP address of the confirmation"),
        Property("subscribed_at", DateTimeType(), nullable=True, description="Subscribed"),
        Property("unsubscribed_at", DateTimeType(), nullable=True, description="Unsubscribed"),
        Property("opted_in_at", DateTimeType(), nullable=True, description="Confirmed"),
        Property("created_at", DateTimeType(), nullable=True, description="Created"),
        Property("updated_at", DateTimeType(), nullable=True, description="Updated"),
    )
)
WRITABLE: Final = ObjectType(
    (
        Property("email", StringType(), create_required=True, description="Email"),
        Property("status", StringType(values=STATUSES), description="Status"),
        Property("ip_address", StringType(), description="IP address"),
    )
)
