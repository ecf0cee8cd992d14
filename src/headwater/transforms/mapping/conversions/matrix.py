"""The possible conversions between types. Values decide the rest (`conversion`)."""

from collections.abc import Iterable
from typing import Final

from headwater.schemas import types as t

_ALWAYS: Final[dict[str, frozenset[str]]] = {
    "string": frozenset(
        ("string", "boolean", "int", "float", "decimal", "datetime", "date", "time", "year", "uuid", "ip")
    ),
    "boolean": frozenset(("string", "boolean")),
    "int": frozenset(("string", "int", "float", "decimal", "year")),
    "float": frozenset(("string", "int", "float", "decimal")),
    "decimal": frozenset(("string", "int", "float", "decimal")),
    "datetime": frozenset(("string", "datetime", "date", "time")),
    "date": frozenset(("string", "datetime", "date")),
    "time": frozenset(("string", "time")),
    "year": frozenset(("string", "int", "year")),
    "uuid": frozenset(("string", "uuid")),
    "ip": frozenset(("string", "ip")),
}
"""The scalars that each scalar can become. Everything converts to json, and json to everything."""


def find_mismatch(source: t.Type, target: t.Type) -> str | None:
    """Return why no value of `source` can be converted to `target`; None if some can."""
    if isinstance(source, t.JsonType) or isinstance(target, t.JsonType):
        return None
    match source, target:
        case t.ArrayType(), t.ArrayType():
            return find_mismatch(source.element_type, target.element_type)
        case t.MapType(), t.MapType():
            return find_mismatch(source.element_type, target.element_type)
        case t.MapType(), t.ObjectType():
            return _members((property.name, source.element_type, property.type) for property in target)
        case t.ObjectType(), t.MapType():
            return _members((property.name, property.type, target.element_type) for property in source)
        case t.ObjectType(), t.ObjectType():
            common = [(here.name, there.type, here.type) for here in target if (there := source.get(here.name))]
            return _members(common) if common else "the objects have no property in common"
        case t.IntType(), _ if target.kind == "boolean" and source.bit_size == 8:
            return None
        case _, t.IntType() if source.kind == "boolean" and target.bit_size == 8:
            return None
    if target.kind in _ALWAYS.get(source.kind, ()):
        return None
    return f"{source} cannot be converted to {target}"


def _members(pairs: Iterable[tuple[str, t.Type, t.Type]]) -> str | None:
    for name, source, target in pairs:
        reason = find_mismatch(source, target)
        if reason is not None:
            return f"{name}: {reason}"
    return None
