"""What the schemas of a pipeline may say, and that all they have is used.

A schema of a pipeline is not a copy of everything that a source or destination has: it lists the properties that the
pipeline works with, with the types they had when it was made, so that a later change on the other side is noticed.
"""

from collections.abc import Iterable
from typing import Literal

from headwater.base.errors import BadRequest
from headwater.schemas import ArrayType, MapType, ObjectType, Property, Schema, walk

Side = Literal[
    "profile", "source", "source-database", "destination-application", "destination-events", "destination-database"
]
"""Whose properties a schema describes."""

_SCALAR_PARENTS = (ArrayType, MapType)


def check_flags(schema: Schema, side: Side, member: str, *, matching_out: str = "", table_key: str = "") -> None:
    """Refuse flags that have no meaning on this side, and demand those that every property there must have.

    `member` names the schema in messages. `matching_out` and `table_key` are properties with rules of their own.
    """
    for path, property_ in walk(schema):
        rule = _broken_rule(path, property_, side, matching_out, table_key)
        if rule is not None:
            raise BadRequest(f"{member}: property {path} {rule}", field=f"{member}.{path}")
    if side == "profile":
        _check_profile(schema, member)


def _broken_rule(path: str, property_: Property, side: Side, matching_out: str, table_key: str) -> str | None:
    create, update = property_.create_required, property_.update_required
    if side == "profile":
        if create or update:
            return "cannot be required: it is of a profile"
        if not property_.read_optional:
            return "must have readOptional: a profile may be without it"
        if property_.nullable:
            return "cannot be nullable: it is of a profile"
    elif side.startswith("source"):
        if create or update:
            return "cannot be required: it is read, not written"
        if side == "source-database" and property_.read_optional:
            return "cannot have readOptional: a column is always there"
    else:
        if property_.read_optional and not (side == "destination-application" and _is_on(path, matching_out)):
            return "cannot have readOptional: it is written, not read"
        if update and side != "destination-application":
            return "cannot have updateRequired"
        if side == "destination-database":
            if create != (path == table_key):
                return "must have createRequired if and only if it is the table key"
            if property_.nullable and path == table_key:
                return "cannot be nullable: it is the table key"
    if property_.prefilled and side != "destination-application" and side != "destination-events":
        return "cannot have prefilled"
    return None


def _is_on(path: str, target: str) -> bool:
    return path == target or target.startswith(f"{path}.")


def _check_profile(schema: Schema, member: str) -> None:
    columns: dict[str, str] = {}
    for path, property_ in walk(schema):
        if property_.name.startswith("_"):
            raise BadRequest(f"{member}: property {path} begins with an underscore", field=f"{member}.{path}")
        if isinstance(property_.type, _SCALAR_PARENTS) and isinstance(
            property_.type.element_type, (ArrayType, MapType, ObjectType)
        ):
            raise BadRequest(f"{member}: the elements of {path} must be scalar", field=f"{member}.{path}")
        if not isinstance(property_.type, ObjectType):
            column = path.replace(".", "_").lower()
            if column in columns:
                raise BadRequest(
                    f"{member}: properties {columns[column]} and {path} would be the same column of the warehouse",
                    field=f"{member}.{path}",
                )
            columns[column] = path


def check_all_used(schema: Schema, used: Iterable[str], member: str, what: str) -> None:
    """Refuse a schema with a property that nothing uses. A used object covers what is in it."""
    paths = set(used)
    for path, property_ in walk(schema):
        covered = any(path == one or path.startswith(f"{one}.") for one in paths)
        leads_to_one = isinstance(property_.type, ObjectType) or any(one.startswith(f"{path}.") for one in paths)
        if not covered and not leads_to_one:
            raise BadRequest(f"{what} schema contains an unused property: {path}", field=f"{member}.{path}")
