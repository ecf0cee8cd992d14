"""Required properties of an output, if its purpose is to create or update a record.

The requirements concern mapped properties, their contents and their parents. Other properties may come from elsewhere,
such as the one by which an export finds its record.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from headwater.schemas import (
    ArrayType,
    MapType,
    ObjectType,
    Path,
    Property,
    Record,
    Schema,
    Type,
    parse_path,
    property_at,
)
from headwater.schemas.decoding import key_component

Purpose = Literal["Import", "Create", "Update"]
"""The use of the output: to be stored here, or to create or update a record elsewhere."""

Missing = Callable[[Any], str | None]
"""Returns the path of a missing property inside a value that is not None, or None."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """The requirement at one path."""

    path: Path
    source: str
    """The mapped output path, which is this path or one below."""
    required: bool
    inside: Missing | None
    """The requirement inside the value, if there is one."""

    def missing(self, record: Record) -> str | None:
        """Return the path of a required property that the record does not have; None if there is none."""
        here: Any = record
        for name in self.path:
            if not isinstance(here, dict) or name not in here:
                return ".".join(self.path) if self.required else None
            here = here[name]
        below = self.inside(here) if self.inside is not None and here is not None else None
        return None if below is None else _joined(".".join(self.path), below)


def list_requirements(
    paths: Iterable[str], schema: Schema, purpose: Literal["Import", "Create", "Update"]
) -> tuple[Requirement, ...]:
    """Return the requirements of these mapped paths of the schema, parents first."""

    def required(property: Property) -> bool:
        return {"Import": False, "Create": property.create_required, "Update": property.update_required}[purpose]

    found: dict[Path, Requirement] = {}
    for source in paths:
        path = parse_path(source)
        for length in range(1, len(path) + 1):
            here = path[:length]
            property = property_at(schema, here)
            inside = _inside(property.type, required) if here == path else None
            if here not in found and (required(property) or inside is not None):
                found[here] = Requirement(here, source, required(property), inside)
    return tuple(found.values())


def _inside(type: Type, required: Callable[[Property], bool]) -> Missing | None:
    match type:
        case ObjectType():
            return _inside_object(type, required)
        case ArrayType() | MapType():
            missing = _inside(type.element_type, required)
            if missing is None:
                return None
            return _inside_array(missing) if isinstance(type, ArrayType) else _inside_map(missing)
        case _:
            return None


def _inside_object(type: ObjectType, required: Callable[[Property], bool]) -> Missing | None:
    members = [(each.name, required(each), _inside(each.type, required)) for each in type]
    members = [member for member in members if member[1] or member[2] is not None]
    if not members:
        return None

    def missing(value: dict[str, Any]) -> str | None:
        for name, must, inside in members:
            if name not in value:
                if must:
                    return name
            elif inside is not None and value[name] is not None and (below := inside(value[name])) is not None:
                return _joined(name, below)
        return None

    return missing


def _inside_array(missing: Missing) -> Missing:
    def missing_in_array(elements: list[Any]) -> str | None:
        for index, element in enumerate(elements):
            if (below := missing(element)) is not None:
                return _joined(f"[{index}]", below)
        return None

    return missing_in_array


def _inside_map(missing: Missing) -> Missing:
    def missing_in_map(elements: dict[str, Any]) -> str | None:
        for key, element in elements.items():
            if (below := missing(element)) is not None:
                return _joined(key_component(key), below)
        return None

    return missing_in_map


def _joined(path: str, below: str) -> str:
    return path + below if below.startswith("[") else f"{path}.{below}"
