"""Values of HubSpot's properties: all of them are texts, also numbers, times and choices."""

from datetime import UTC, date, datetime
from typing import Final

import msgspec

from headwater.schemas import (
    ArrayType,
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    FloatType,
    Json,
    StringType,
    Type,
    Value,
    is_property_name,
)

_TYPES: Final[dict[str, Type]] = {
    "bool": BooleanType(),
    "date": DateType(),
    "datetime": DateTimeType(),
    "number": FloatType(64, real=True),
}


class Choice(msgspec.Struct, frozen=True):
    """One option of a property."""

    label: str = ""
    value: str = ""


class Access(msgspec.Struct, frozen=True, rename="camel"):
    """The parts of a property that can be changed."""

    read_only_value: bool = False


class Definition(msgspec.Struct, frozen=True, rename="camel"):
    """The definition of a property of contacts or events, as HubSpot lists it."""

    name: str
    type: str = "string"
    field_type: str = ""
    label: str = ""
    archived: bool = False
    calculated: bool = False
    modification_metadata: Access = Access()

    @property
    def is_usable(self) -> bool:
        return is_property_name(self.name) and not self.archived

    @property
    def is_writable(self) -> bool:
        return not self.calculated and not self.modification_metadata.read_only_value

    @property
    def is_multiple(self) -> bool:
        return self.type == "enumeration" and self.field_type == "checkbox"

    def schema_type(self) -> Type:
        """Return the type of its values: a text if HubSpot has another type."""
        return ArrayType(StringType()) if self.is_multiple else _TYPES.get(self.type, StringType())

    def read(self, text: str | None) -> Value:
        """Return the value of a text. Raises ValueError."""
        if not text:
            return None
        if self.is_multiple:
            return [each for each in text.split(";") if each]
        if self.type == "number":
            return float(text)
        if self.type == "bool":
            return _boolean(text)
        if self.type == "date":
            return _moment(text).date() if text.isdigit() else date.fromisoformat(text[:10])
        if self.type == "datetime":
            return DateTime.of(_moment(text) if text.isdigit() else datetime.fromisoformat(text))
        return text


def _boolean(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{text[:50]} is no boolean")
    return text == "true"


def _moment(text: str) -> datetime:
    """Return a time in milliseconds since 1970."""
    return datetime.fromtimestamp(int(text) / 1_000, tz=UTC)


def to_text(value: Value) -> str:
    """Return the text for a value. An empty one clears a property."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else repr(value)
    if isinstance(value, DateTime):
        return value.to_datetime().isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(value, list):
        return ";".join(map(to_text, value))
    return value.text if isinstance(value, Json) else str(value)
