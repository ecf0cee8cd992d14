"""JSON schemas of requests, from the specifications that registry packages have.

Packages have OpenAPI documents, or Python types that their vendor generates from one: typed dictionaries and pydantic
models. All become closed schemas: an object has no member that its schema does not name, because vendors ignore such
members or refuse them.
"""

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import typing_extensions
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

Schema = dict[str, Any]
_COMBINATORS: Final = ("allOf", "anyOf", "oneOf")
_MARKS: Final = (typing_extensions.Required, typing_extensions.NotRequired)
_OF_JSON: Final = frozenset({"builtins", "collections", "types", "typing"})
"""Modules of generic classes that are values of JSON."""


def read(module: str, name: str, *bare: str) -> Any:
    """Return a member of a package's module.

    Packages in `bare` are not executed: their `__init__` imports hundreds of modules.
    """
    for package in bare:
        if package not in sys.modules:
            spec = find_spec(package)
            assert spec is not None, package
            sys.modules[package] = module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return getattr(import_module(module), name)


class Types:
    """Converts Python types to schemas. `definitions` are shared by the schemas that it returns.

    `names` has types that the vendor's modules only import for a type checker.
    """

    def __init__(self, names: Mapping[str, Any] | None = None) -> None:
        self.definitions: Schema = {}
        self._names = dict(names or {}) or None

    def hints(self, type_: Any) -> dict[str, Any]:
        """Return the types of members or parameters."""
        return typing_extensions.get_type_hints(type_, localns=self._names, include_extras=True)

    def closed(self, schema: Schema) -> Schema:
        """Return a closed schema with its definitions."""
        return close({**schema, "$defs": self.definitions})

    def members(self, types: Mapping[str, Any], required: Iterable[str] = ()) -> Schema:
        """Return the schema of an object with members of these types."""
        properties = {name: self.of(type_) for name, type_ in types.items()}
        return {"type": "object", "properties": properties, "required": list(required)}

    def of(self, type_: Any) -> Schema:
        """Return the schema of a type. `Any` and classes of the vendor's client are left out of a union."""
        if typing_extensions.is_typeddict(type_):
            return self._of_typed_dictionary(type_)
        origin, given = get_origin(type_), get_args(type_)
        if origin in _MARKS or (origin is Annotated and not any(isinstance(each, FieldInfo) for each in given)):
            return self.of(given[0])
        if origin in (Union, UnionType):
            return {"anyOf": [self.of(each) for each in given if each is not Any and not _is_of_client(each)]}
        if origin is Literal:
            return {"enum": list(given)}
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.of(given[1])}
        if isinstance(origin, type) and issubclass(origin, Iterable):
            return {"type": "array", "items": self.of(given[0])}
        schema = TypeAdapter(type_).json_schema()
        self.definitions |= schema.pop("$defs", {})
        return schema

    def _of_typed_dictionary(self, type_: Any) -> Schema:
        hints = self.hints(type_)
        default = typing_extensions.Required if type_.__total__ else None
        return self.members(
            {_alias(hint) or name: hint for name, hint in hints.items()},
            [
                _alias(hint) or name
                for name, hint in hints.items()
                if (get_origin(hint) if get_origin(hint) in _MARKS else default) is typing_extensions.Required
            ],
        )


def _alias(hint: Any) -> str:
    """Return the name of a member in JSON, which differs from that in Python; empty if it does not."""
    while get_origin(hint) in _MARKS:
        hint = get_args(hint)[0]
    metadata = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    return next((str(each.alias) for each in metadata if getattr(each, "alias", None)), "")


def _is_of_client(type_: Any) -> bool:
    """Return whether a type is a generic class of the vendor."""
    origin = get_origin(type_)
    return isinstance(origin, type) and origin.__module__.partition(".")[0] not in _OF_JSON


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
