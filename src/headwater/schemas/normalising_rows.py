"""Compiles a schema into functions that normalise rows of columns, one by one or many together."""

from collections.abc import Callable, Sequence
from typing import Any

from headwater.schemas import types as t
from headwater.schemas.errors import InvalidValue
from headwater.schemas.normalising import compile_property
from headwater.schemas.table import Table
from headwater.schemas.values import MISSING, Record

RowNormaliser = Callable[[Sequence[Any]], Record]
RowsNormaliser = Callable[[Sequence[Sequence[Any]]], Table | None]


def compile_row_normaliser(schema: t.Schema, columns: Sequence[str]) -> RowNormaliser:
    """Return a function that normalises rows with these columns. Columns that the schema does not have are left out.

    Each property of the schema is a column. A value can be MISSING.
    """
    positions = {name: index for index, name in enumerate(columns)}
    fields = [
        (property.name, positions[property.name], compile_property(property), property.read_optional)
        for property in schema
    ]

    def normalise(row: Sequence[Any]) -> Record:
        record: Record = {}
        for name, index, normalise_value, optional in fields:
            value = row[index]
            if value is MISSING:
                if optional:
                    continue
                raise InvalidValue("is missing", name)
            try:
                record[name] = normalise_value(value)
            except InvalidValue as error:
                raise error.under(name) from None
        return record

    return normalise


def compile_rows_normaliser(schema: t.Schema, columns: Sequence[str]) -> RowsNormaliser:
    """Return a function that normalises many rows together, column by column, which is several times as fast.

    It returns None if one of the rows cannot be normalised, or lacks a value: normalise them one by one then.
    """
    positions = {name: index for index, name in enumerate(columns)}
    fields = [(property.name, positions[property.name], _column(property)) for property in schema]

    def normalise(rows: Sequence[Sequence[Any]]) -> Table | None:
        if not rows:
            return Table.of([])
        values = tuple(zip(*rows, strict=True))
        try:
            columns = {name: normalise_column(values[index]) for name, index, normalise_column in fields}
        except (InvalidValue, TypeError):
            return None
        return Table(len(rows), columns=columns)

    return normalise


def _column(property: t.Property) -> Callable[[tuple[Any, ...]], Sequence[Any]]:
    """Return the normalisation of the values of a column. Raises InvalidValue or TypeError for any that is wrong."""
    normalise, nullable = compile_property(property), property.nullable

    def normalise_each(values: tuple[Any, ...]) -> Sequence[Any]:
        if MISSING in values:
            raise TypeError("a value is missing")
        return list(map(normalise, values))

    def check_texts(values: tuple[Any, ...]) -> Sequence[Any]:
        has_null = nullable and None in values
        joined = "".join([value for value in values if value is not None] if has_null else values)
        if "\0" in joined or not joined.isascii():
            return list(map(normalise, values))
        return values

    return check_texts if property.type == t.StringType() else normalise_each
