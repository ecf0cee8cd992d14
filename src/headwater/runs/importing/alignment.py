"""Compares the stored input schema of a pipeline with the columns that its source has."""

from collections.abc import Sequence

from headwater.connectors.contract import Column
from headwater.runs.job import RunFailed
from headwater.schemas import ObjectType, Property, Schema, misalignment


def check_columns(stored: Schema, columns: Sequence[Column]) -> None:
    """Check that the columns include the stored properties, with the same types. Raises RunFailed.

    A column that is in each record fits a stored property that may be missing.
    """
    by_name = {column.name: column for column in columns}
    for property in stored:
        column = by_name.get(property.name)
        if column is not None and column.type is None:
            raise RunFailed("InputValidation", f"column {property.name} cannot be read: {column.issue}")
    offered = [
        Property(
            property.name,
            column.type,
            nullable=column.nullable,
            read_optional=column.read_optional or property.read_optional,
        )
        for property in stored
        if (column := by_name.get(property.name)) is not None and column.type is not None
    ]
    check_schema(stored, ObjectType(tuple(offered)) if offered else None)


def check_schema(stored: Schema, offered: Schema | None) -> None:
    """Check that the stored properties are those that the source offers. Raises RunFailed."""
    difference = misalignment(stored, offered)
    if difference is not None:
        raise RunFailed("InputValidation", f"the schema of the source has changed: {difference.cause}")
