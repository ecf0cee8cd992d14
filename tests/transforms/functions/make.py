"""Short forms of functions and schemas for tests."""

from headwater.schemas import types as t
from headwater.transforms.functions import Function, Language

KINDS: dict[str, t.Type] = {
    "string": t.StringType(),
    "boolean": t.BooleanType(),
    "int": t.IntType(32),
    "int64": t.IntType(64),
    "float": t.FloatType(64),
    "decimal": t.DecimalType(10, 3),
    "datetime": t.DateTimeType(),
    "date": t.DateType(),
    "time": t.TimeType(),
    "year": t.YearType(),
    "uuid": t.UuidType(),
    "ip": t.IpType(),
    "json": t.JsonType(),
}

USER = t.ObjectType(
    (
        t.Property("id", t.IntType(32), read_optional=True),
        t.Property("name", t.StringType(), read_optional=True),
        t.Property("email", t.StringType(), read_optional=True, nullable=True),
        t.Property("active", t.BooleanType(), read_optional=True),
    )
)


def function(language: Language, source: str, schema: t.Schema = USER, out: t.Schema | None = None, *,
             owner: str = "test", preserve_json: bool = False) -> Function:  # fmt: skip
    """Return a function of all properties of its schemas."""
    returned = schema if out is None else out
    return Function(
        owner, language, source, preserve_json,
        tuple(property.name for property in schema), tuple(property.name for property in returned),
    )  # fmt: skip


def one(type: t.Type, **attributes: bool) -> t.Schema:
    """Return a schema with the one property `v`."""
    return t.ObjectType((t.Property("v", type, **attributes),))  # type: ignore[arg-type]  # flags, not texts


IDENTITY: dict[Language, str] = {
    "JavaScript": "const transform = (record) => record",
    "Python": "def transform(record):\n    return record",
}
