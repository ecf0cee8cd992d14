"""Rules for the schemas of a pipeline: valid attributes, and no unused properties.

A pipeline's schema is not a copy of the source's or destination's schema. It lists the properties that the pipeline
uses, with the types they had when the pipeline was created, so that later changes on the other side are detected.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from headwater.base.errors import BadRequest
from headwater.schemas import InvalidType, Property, Schema, check_profile_schema, walk

Side = Literal["profile", "source", "database source", "application", "events", "database"]
"""The owner of a schema's properties: a profile, a source that is read, or a destination that is written."""


def check_side(schema: Schema, side: Side, member: str, *, matching_out: str = "", table_key: str = "") -> None:
    """Check the attributes of properties: none without a meaning on this side, and all that this side requires.

    `member` names the schema in messages. `matching_out` and `table_key` are properties with rules of their own.
    """
    if side == "profile":
        try:
            check_profile_schema(schema)
        except InvalidType as error:
            raise _refusal(member, error.path, error.rule) from error
        return
    for path, property_ in walk(schema):
        rule = _broken_rule(path, property_, side, matching_out, table_key)
        if rule is not None:
            raise _refusal(member, path, rule)


def check_all_used(schema: Schema, used: Iterable[str], member: str, what: str) -> None:
    """Check that every property is used. A used object covers the properties inside it. Raises BadRequest."""
    wholes = set(used)
    parents = {parent for path in wholes for parent in parent_paths(path)}
    for path, _ in walk(schema):
        if path not in wholes and path not in parents and wholes.isdisjoint(parent_paths(path)):
            raise BadRequest(f"{what} schema contains an unused property: {path}", field=f"{member}.{path}")


def parent_paths(path: str) -> Iterator[str]:
    """Yield the paths of the objects that contain the property at the path."""
    return (path[:point] for point, character in enumerate(path) if character == ".")


def _broken_rule(path: str, property_: Property, side: Side, matching_out: str, table_key: str) -> str | None:
    is_read = side in ("source", "database source")
    if is_read and (property_.create_required or property_.update_required):
        return "cannot be required: it is read, not written"
    if property_.prefilled:
        return "cannot be prefilled"
    if property_.read_optional:
        if side == "database source":
            return "cannot have readOptional: a column is always there"
        if not is_read and not (matching_out == path or matching_out.startswith(f"{path}.")):
            return "cannot have readOptional: it is written, not read"
    if property_.update_required and side in ("events", "database"):
        return "cannot have updateRequired"
    if side == "database":
        if property_.create_required != (path == table_key):
            return "must have createRequired if it is the table key, and only then"
        if property_.nullable and path == table_key:
            return "cannot be nullable: it is the table key"
    return None


def _refusal(member: str, path: str, rule: str) -> BadRequest:
    return BadRequest(f"{member}: property {path} {rule}", field=f"{member}.{path}")
