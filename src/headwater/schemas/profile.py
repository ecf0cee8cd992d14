"""The restrictions of a workspace's profile schema: every warehouse can store it, and every source can omit any
property."""

from typing import Final

from headwater.schemas.errors import InvalidType
from headwater.schemas.paths import walk, walk_objects
from headwater.schemas.types import ArrayType, MapType, Property, Schema, StringType

_NESTING: Final = ("array", "object", "map")


def check_profile_schema(schema: Schema) -> None:
    """Raise InvalidType with the path of the property if the schema breaks a restriction.

    The restrictions: every property may be missing when read and has no other attribute but a description. Names that
    begin with an underscore are reserved. Strings and arrays are unconstrained, except for the length of strings;
    elements are scalars. No two properties share a column.
    """
    for path, property in walk(schema):
        rule = _broken_rule(property)
        if rule is not None:
            raise InvalidType(rule, path)
    columns: dict[str, str] = {}
    for path, _ in walk_objects(schema):
        other = columns.setdefault(name_column(path).lower(), path)
        if other != path:
            raise InvalidType(f"would share a column with {other}", path)


def name_column(path: str) -> str:
    """Return the name of the warehouse column for the property at the path. Column names are compared ignoring case."""
    return path.replace(".", "_")


def _broken_rule(property: Property) -> str | None:
    if property.name.startswith("_"):
        return "must not begin with an underscore"
    if property.prefilled:
        return "must not be prefilled"
    if property.create_required or property.update_required:
        return "must not be required to create or update"
    if not property.read_optional:
        return "must be readOptional"
    if property.nullable:
        return "must not be nullable"
    match property.type:
        case StringType() as type if type.values is not None or type.pattern is not None:
            return "must be a string without values and pattern"
        case ArrayType() as type if type != ArrayType(type.element_type):
            return "must be an array without minElements, maxElements and uniqueElements"
        case ArrayType() | MapType() as type if type.element_type.kind in _NESTING:
            return f"must not have elements of kind {type.element_type.kind}"
        case _:
            return None
