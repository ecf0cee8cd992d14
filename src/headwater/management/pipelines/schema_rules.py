"""What the schemas of a pipeline may say, and that all they have is used.

A schema of a pipeline is not a copy of everything that a source or destination has: it lists the properties that the
pipeline works with, with the types they had when it was made, so that a later change on the other side is noticed.
"""

from collections.abc import Iterable, Iterator
from typing import Literal

from headwater.base.errors import BadRequest
from headwater.schemas import InvalidType, Property, Schema, check_profile_schema, walk

Side = Literal["profile", "source", "database source", "application", "events", "database"]
"""Whose properties a schema describes: a profile's; those read from a source; those written to a destination."""


def check_side(schema: Schema, side: Side, member: str, *, matching_out: str = "", table_key: str = "") -> None:
    """Refuse attributes that have no meaning on this side, and demand those that every property there must have.

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
    """Refuse a schema with a property that nothing uses. A used object covers what is in it."""
    wholes = set(used)
    parents = {parent for path in wholes for parent in parents_of(path)}
    for path, _ in walk(schema):
        if path not in wholes and path not in parents and wholes.isdisjoint(parents_of(path)):
            raise BadRequest(f"{what} schema contains an unused property: {path}", field=f"{member}.{path}")


def parents_of(path: str) -> Iterator[str]:
    """The paths of the objects that the property at the path is in."""
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
