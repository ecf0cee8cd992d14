"""The schemas of an object's records, from its description."""

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime
from typing import Any, Final

from headwater.base.errors import Unavailable
from headwater.connectors.salesforce.api import Description, Field
from headwater.connectors.salesforce.settings import ID
from headwater.schemas import (
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    FloatType,
    IntType,
    ObjectType,
    Property,
    Schema,
    StringType,
    Type,
    is_property_name,
)

MODIFIED: Final = "SystemModstamp"
"""The field with the time of the last change, also of those that Salesforce makes itself."""
MAX_NAMES_CHARACTERS: Final = 12_000
"""Maximum length of the names in a query, which is part of a URL of at most 16,384 bytes."""

_LEFT_OUT: Final = frozenset({"address", "anyType", "base64", "complexvalue", "json", "location"})
"""Types without a plain value. The parts of addresses and locations are fields of their own."""
_TYPES: Final[dict[str, Type]] = {
    "boolean": BooleanType(),
    "currency": FloatType(64, real=True),
    "date": DateType(),
    "datetime": DateTimeType(),
    "double": FloatType(64, real=True),
    "int": IntType(32),
    "long": IntType(64),
    "percent": FloatType(64, real=True),
}
"""All other types are texts."""


def find_lookups(description: Description) -> list[str]:
    """Return the fields by which Salesforce can find a record."""
    return [field.name for field in description.fields if field.external_id or field.id_lookup]


def make_readable_schema(description: Description) -> Schema:
    """Return the schema of the records that are read, with the id and the time of change first.

    Fields whose names do not fit in a query are left out. Raises Unavailable for an object without these two.
    """
    fields = sorted(_plain(description), key=lambda field: (field.name != ID, field.name != MODIFIED))
    if [field.name for field in fields[:2]] != [ID, MODIFIED]:
        raise Unavailable(f"the object has no fields {ID} and {MODIFIED}, which are needed to read it")
    properties, length = [], 0
    for field in fields:
        length += len(field.name) + 1
        if length > MAX_NAMES_CHARACTERS:
            break
        properties.append(
            Property(field.name, _TYPES.get(field.type, _TEXT), nullable=field.name != ID, description=field.label)
        )
    return ObjectType(tuple(properties))


def make_writable_schema(description: Description, external_id: str) -> Schema:
    """Return the schema of the records that are written. Raises Unavailable if there is nothing to write."""
    properties = tuple(
        Property(
            field.name,
            _writable_type(field),
            create_required=field.name == external_id or _is_required(field),
            nullable=field.nillable and field.name != external_id,
            description=field.label,
        )
        for field in _plain(description)
        if field.createable and field.updateable
    )
    if not properties:
        raise Unavailable("the account may not write any field of the object")
    return ObjectType(properties)


_TEXT: Final = StringType()


def _plain(description: Description) -> Iterator[Field]:
    for field in description.fields:
        if field.type not in _LEFT_OUT and not field.deprecated_and_hidden and is_property_name(field.name):
            yield field


def _writable_type(field: Field) -> Type:
    if (type_ := _TYPES.get(field.type)) is not None:
        return type_
    return StringType(max_length=field.length) if field.length > 0 else _TEXT


def _is_required(field: Field) -> bool:
    return not field.nillable and not field.defaulted_on_create and field.type != "boolean"


def find_reader(type_: Type) -> Callable[[Any], Any]:
    """Return the function that converts a value of a response. It raises ValueError or TypeError."""
    return _READERS.get(type_.kind, _read_text)


def read_time(value: Any) -> datetime:
    """Return a time as Salesforce writes it ("2026-05-04T12:00:00.000+0000"). Raises ValueError."""
    return datetime.fromisoformat(str(value)).astimezone(UTC)


def format_time(moment: datetime) -> str:
    """Return a time as queries and records have it: Salesforce has milliseconds."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def _read_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r} is no text")
    return value


def _read_float(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is no number")
    return float(value)


_READERS: Final[dict[str, Callable[[Any], Any]]] = {
    "boolean": lambda value: value,
    "date": lambda value: date.fromisoformat(_read_text(value)),
    "datetime": lambda value: DateTime.of(read_time(value)),
    "float": _read_float,
    "int": lambda value: int(_read_float(value)),
}
