"""Short forms of functions and schemas for tests."""

from headwater.schemas import (
    BooleanType,
    DateTimeType,
    DateType,
    DecimalType,
    FloatType,
    IntType,
    IpType,
    JsonType,
    ObjectType,
    Property,
    Schema,
    StringType,
    TimeType,
    Type,
    UuidType,
    YearType,
)
from headwater.transforms.functions import Function, Language

KINDS: dict[str, Type] = {
    "string": StringType(),
    "boolean": BooleanType(),
    "int": IntType(32),
    "int64": IntType(64),
    "float": FloatType(64),
    "decimal": DecimalType(10, 3),
    "datetime": DateTimeType(),
    "date": DateType(),
    "time": TimeType(),
    "year": YearType(),
    "uuid": UuidType(),
    "ip": IpType(),
    "json": JsonType(),
}

USER = ObjectType(
    (
        Property("id", IntType(32), read_optional=True),
        Property("name", StringType(), read_optional=True),
        Property("email", StringType(), read_optional=True, nullable=True),
        Property("active", BooleanType(), read_optional=True),
    )
)


def function(language: Language, source: str, schema: Schema = USER, out: Schema | None = None, *,
             owner: str = "test", preserve_json: bool = False) -> Function:  # fmt: skip
    """Return a function of all properties of its schemas."""
    returned = schema if out is None else out
    return Function(
        owner, language, source, preserve_json,
        tuple(property.name for property in schema), tuple(property.name for property in returned),
    )  # fmt: skip


def one(type: Type, **attributes: bool) -> Schema:
    """Return a schema with the one property `v`."""
    return ObjectType((Property("v", type, **attributes),))  # type: ignore[arg-type]  # flags, not texts


IDENTITY: dict[Language, str] = {
    "JavaScript": "const transform = (record) => record",
    "Python": "def transform(record):\n    return record",
}
