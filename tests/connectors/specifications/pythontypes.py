"""Schemas of the Python types that vendors generate from their OpenAPI: typed dictionaries and pydantic models."""

import sys
import warnings
from collections.abc import Iterable, Mapping
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import typing_extensions
from pydantic import TypeAdapter
from pydantic.fields import FieldInfo

from tests.connectors.specifications.schemas import Schema, close

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
