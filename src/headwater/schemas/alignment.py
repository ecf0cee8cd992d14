"""Compares the stored schema of a pipeline with the schema that the other system offers today.

It tests equality, not compatibility: a wider type is a difference too, so that people review a change before more data
passes. It reports the first difference, in the order of the stored schema.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import msgspec

from headwater.schemas.json_value import excerpt
from headwater.schemas.serialisation import type_document
from headwater.schemas.types import ArrayType, MapType, ObjectType, Property, Schema, StringType, Type

ExportMode = Literal["CreateOnly", "UpdateOnly", "CreateOrUpdate"]
"""The effect of an export on records. None stands for reading."""


@dataclass(frozen=True, slots=True)
class Misalignment:
    """The first difference between two schemas."""

    path: str
    """The path of the property, without array elements and map values."""
    cause: str
    """A message for people: names the property and the difference."""


def misalignment(stored: Schema | None, offered: Schema | None, mode: ExportMode | None = None) -> Misalignment | None:
    """Return the first difference, or None if the schemas are aligned.

    Properties that only `offered` has are ignored unless the mode requires them. None is a schema without properties.
    """
    return _compare_objects(stored, offered, mode, "")


def _compare_objects(
    stored: ObjectType | None, offered: ObjectType | None, mode: ExportMode | None, prefix: str
) -> Misalignment | None:
    for property in stored or ():
        now = None if offered is None else offered.get(property.name)
        path = prefix + property.name
        if now is None:
            return Misalignment(path, f"property {path} no longer exists")
        found = _compare_properties(property, now, mode, path)
        if found is not None:
            return found
    for property in offered or ():
        if stored is None or stored.get(property.name) is None:
            path = prefix + property.name
            for action in _required(property, mode):
                return Misalignment(path, f"property {path} is now required to {action} records")
    return None


def _required(property: Property, mode: ExportMode | None) -> list[str]:
    actions: list[str] = []
    if property.create_required and mode in ("CreateOnly", "CreateOrUpdate"):
        actions.append("create")
    if property.update_required and mode in ("UpdateOnly", "CreateOrUpdate"):
        actions.append("update")
    return actions


def _compare_properties(stored: Property, offered: Property, mode: ExportMode | None, path: str) -> Misalignment | None:
    found = _compare_types(stored.type, offered.type, mode, path)
    if found is not None:
        return found
    if stored.nullable != offered.nullable:
        return Misalignment(
            path, f"property {path} {'can now be null' if offered.nullable else 'can no longer be null'}"
        )
    if mode is None:
        if stored.read_optional != offered.read_optional:
            now = "can now be missing" if offered.read_optional else "can no longer be missing"
            return Misalignment(path, f"property {path} {now} when it is read")
        return None
    before, after = _required(stored, mode), _required(offered, mode)
    for action in ("create", "update"):
        if (action in before) != (action in after):
            now = "is now" if action in after else "is no longer"
            return Misalignment(path, f"property {path} {now} required to {action} records")
    return None


def _compare_types(stored: Type, offered: Type, mode: ExportMode | None, path: str) -> Misalignment | None:
    if stored.kind != offered.kind:
        return Misalignment(path, f"the type of property {path} was {stored} and is now {offered}")
    if isinstance(stored, ObjectType) and isinstance(offered, ObjectType):
        return _compare_objects(stored, offered, mode, f"{path}.")
    for key, before, after in _differences(stored, offered):
        return Misalignment(path, f"the type of property {path} changed: {key} was {before} and is now {after}")
    if isinstance(stored, ArrayType | MapType) and isinstance(offered, ArrayType | MapType):
        return _compare_types(stored.element_type, offered.element_type, mode, path)
    return None


def _differences(stored: Type, offered: Type) -> Iterator[tuple[str, str, str]]:
    """Yield the constraints that differ, as key and JSON texts, without those of elements."""
    if stored == offered:
        return
    before, after = _constraints(stored), _constraints(offered)
    for key in before | after:
        if before.get(key) != after.get(key):
            yield key, before.get(key, "not set"), after.get(key, "not set")


def _constraints(type: Type) -> dict[str, str]:
    if isinstance(type, ArrayType):
        type = replace(type, element_type=StringType())
    elif isinstance(type, MapType):
        return {}
    return {key: excerpt(msgspec.json.encode(value).decode()) for key, value in type_document(type).items()}
