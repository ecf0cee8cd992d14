"""Profile schemas in short: `profile(email="string", address=profile(zip="string"))`."""

from typing import Final

from headwater.schemas import (
    ArrayType,
    DecimalType,
    IntType,
    IpType,
    JsonType,
    MapType,
    ObjectType,
    Property,
    StringType,
    Type,
    UuidType,
)

TYPES: Final[dict[str, Type]] = {
    "string": StringType(),
    "short": StringType(max_length=20),
    "int": IntType(32),
    "decimal": DecimalType(10, 2),
    "whole": DecimalType(10, 0),
    "uuid": UuidType(),
    "ip": IpType(),
    "json": JsonType(),
    "array": ArrayType(StringType()),
    "map": MapType(StringType()),
}


def profile(**types: str | Type) -> ObjectType:
    """Return a profile schema with these properties."""
    return ObjectType(
        tuple(
            Property(name, TYPES[type_] if isinstance(type_, str) else type_, read_optional=True)
            for name, type_ in types.items()
        )
    )
