"""JSON schemas of requests, from the specifications that registry packages have.

All are closed: an object has no member that its schema does not name, because vendors ignore such members or refuse
them.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

Schema = dict[str, Any]
_COMBINATORS: Final = ("allOf", "anyOf", "oneOf")


def close(schema: Schema) -> Schema:
    """Return a schema in which no object has members that the schema does not name.

    An object is closed where it is used, with all parts of which it consists. `nullable` of OpenAPI becomes a type.
    Alternatives that require no member describe the same object, so more than one of them can apply.
    """
    closed: Schema = _close(schema, "")
    return closed


def _close(schema: Any, part_of: str) -> Any:
    """Close the objects in a schema, and itself unless it is part of another: of a combinator, or a definition."""
    if not isinstance(schema, dict):
        return schema
    closed = dict(schema)
    for name, member_of in (("properties", ""), ("$defs", "$defs")):
        if isinstance(members := closed.get(name), dict):
            closed[name] = {key: _close(member, member_of) for key, member in members.items()}
    if closed.get("additionalProperties") is True and "properties" in closed:
        del closed["additionalProperties"]
    for name in ("items", "additionalProperties"):
        if name in closed:
            closed[name] = _close(closed[name], "")
    if any("properties" in part and "required" not in part for part in closed.get("oneOf", ())):
        closed["anyOf"] = closed.pop("oneOf")
    for name in _COMBINATORS:
        if name in closed:
            closed[name] = [_close(part, name) for part in closed[name]]
    is_composed = not {"$ref", *_COMBINATORS}.isdisjoint(closed)
    if not is_composed and "properties" not in closed:
        if part_of in ("anyOf", "oneOf") and closed.get("type", "object") == "object" and "enum" not in closed:
            closed.setdefault("additionalProperties", True)
    elif not part_of and "additionalProperties" not in closed:
        closed["unevaluatedProperties"] = False
    if closed.pop("nullable", False):
        return {"anyOf": [closed, {"type": "null"}]}
    return closed


def coerce(text: Any, schema: Schema, root: Schema) -> Any:
    """Return the value that a text of a query or a form has by its schema; the text itself if it has none.

    `text` can be an object or an array of texts. Definitions are in `root`.
    """
    alternatives = list(_alternatives(schema, root))
    if isinstance(text, dict):
        return _coerce_members(text, alternatives, root)
    if isinstance(text, list):
        return [coerce(each, _items(alternatives) or {}, root) for each in text]
    types = {each.get("type") for each in alternatives}
    if types & {"integer", "number"} and text.removeprefix("-").isdecimal():
        return int(text)
    return text == "true" if "boolean" in types and text in ("true", "false") else text


def _coerce_members(members: dict[str, Any], alternatives: Sequence[Schema], root: Schema) -> Any:
    items = _items(alternatives)
    if items is not None and all(map(str.isdecimal, members)):
        return [coerce(each, items, root) for each in members.values()]
    known: Schema = {}
    other: Any = {}
    for each in alternatives:
        known |= each.get("properties", {})
        other = each.get("additionalProperties", other)
    other = other if isinstance(other, dict) else {}
    return {name: coerce(value, known.get(name, other), root) for name, value in members.items()}


def _items(alternatives: Sequence[Schema]) -> Schema | None:
    """Return the schema of an array's items; None if no alternative is an array."""
    return next((each.get("items", {}) for each in alternatives if each.get("type") == "array"), None)


def _alternatives(schema: Schema, root: Schema) -> Iterator[Schema]:
    if "$ref" in schema:
        yield from _alternatives(root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    for name in _COMBINATORS:
        for part in schema.get(name, ()):
            yield from _alternatives(part, root)
    yield schema
