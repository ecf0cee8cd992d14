"""The restrictions of a workspace's profile schema: what every warehouse can hold, and every source can leave out."""

from typing import Final

from headwater.schemas.errors import InvalidType
from headwater.schemas.paths import walk, walk_objects
from headwater.schemas.types import ArrayType, MapType, Property, Schema, StringType

_NESTING: Final = ("array", "object", "map")


def check_profile_schema(schema: Schema) -> None:
    """Raises InvalidType, with the path of the property, when the schema breaks a restriction.

    These are: every property may be missing when read, and has no other attribute but a description; no name begins
    with an underscore, as ours do; texts and arrays are unconstrained, save for a text's length; elements are scalars;
    no two properties share a column.
    """
    for path, property in walk(schema):
        rule = _broken_rule(property)
        if rule is not None:
            raise InvalidType(rule, path)
    columns: dict[str, str] = {}
    for path, _ in walk_objects(schema):
        other = columns.setdefault(column_of(path).lower(), path)
        if other != path:
            raise InvalidType(f"would share a column with {other}", path)


def column_of(path: str) -> str:
    """The name of the warehouse column that holds the property at the path. Columns are told apart ignoring case."""
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
