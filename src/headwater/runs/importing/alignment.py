"""Compares the stored input schema of a pipeline with the columns that its source has."""

from collections.abc import Sequence

from headwater.connectors.contract import Column
from headwater.runs.job import RunFailed
from headwater.schemas import ObjectType, Property, Schema, misalignment


def check_columns(stored: Schema, columns: Sequence[Column]) -> None:
    """Check that the columns include the stored properties, with the same types. Raises RunFailed."""
    by_name = {column.name: column for column in columns}
    for property in stored:
        column = by_name.get(property.name)
        if column is not None and column.type is None:
            raise RunFailed("InputValidation", f"column {property.name} cannot be read: {column.issue}")
    offered = [
        Property(name, column.type, nullable=column.nullable, read_optional=_is_optional(stored, name))
        for name, column in by_name.items()
        if column.type is not None and stored.get(name) is not None
    ]
    check_schema(stored, ObjectType(tuple(offered)) if offered else None)


def _is_optional(stored: Schema, name: str) -> bool:
    """A column is always there, and a file whose records may lack a property has a column for it, too."""
    property = stored.get(name)
    return property is not None and property.read_optional


def check_schema(stored: Schema, offered: Schema | None) -> None:
    """Check that the stored properties are those that the source offers. Raises RunFailed."""
    difference = misalignment(stored, offered)
    if difference is not None:
        raise RunFailed("InputValidation", f"the schema of the source has changed: {difference.cause}")
