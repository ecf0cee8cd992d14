"""Schemas derived from schemas: with fewer properties, or with the attributes that matter in one role.

An object that loses its last property is removed too, and a schema that loses everything is None. Unchanged parts are
returned as the same object, so a second projection costs nothing and changes nothing.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

from headwater.schemas.paths import Path, parse_path
from headwater.schemas.types import ArrayType, MapType, ObjectType, Property, Schema, Type

Keep = Callable[[str, Property], bool]
"""Decides by path and property whether the property stays."""


def prune(schema: Schema | None, keep: Keep) -> Schema | None:
    """Return the schema without the properties that `keep` rejects. `keep` is called for parents first, then for the
    children of those that stay.

    Follows objects only.
    """
    return None if schema is None else _prune(schema, "", keep)


def without(schema: Schema | None, path: Path | str) -> Schema | None:
    """Return the schema without the property at the path, or unchanged if there is none."""
    gone = ".".join(parse_path(path) if isinstance(path, str) else path)
    return prune(schema, lambda at, _: at != gone)


def select(schema: Schema | None, paths: Iterable[Path | str]) -> Schema | None:
    """Return the schema with only the properties at the paths, including their children and parents."""
    wholes: set[str] = set()
    parents: set[str] = set()
    for path in paths:
        components = parse_path(path) if isinstance(path, str) else path
        wholes.add(".".join(components))
        parents.update(".".join(components[:length]) for length in range(1, len(components)))

    def keep(path: str, property: Property) -> bool:
        if path in wholes or (path in parents and isinstance(property.type, ObjectType)):
            return True
        return any(path[:point] in wholes for point, character in enumerate(path) if character == ".")

    return prune(schema, keep)


def as_source(schema: Schema | None) -> Schema | None:
    """Return the schema for reading: nothing is required of writers. Applies at every depth, also in arrays and
    maps."""
    return None if schema is None else _project_object(schema, _for_reading)


def as_destination(schema: Schema | None) -> Schema | None:
    """Return the schema for writing: nothing is optional for readers. Applies at every depth, also in arrays and
    maps."""
    return None if schema is None else _project_object(schema, _for_writing)


def _for_reading(property: Property) -> Property:
    if property.create_required or property.update_required:
        return replace(property, create_required=False, update_required=False)
    return property


def _for_writing(property: Property) -> Property:
    return replace(property, read_optional=False) if property.read_optional else property


def all_optional(schema: Schema) -> Schema:
    """Return the schema with properties that may all be missing. Results of transformations conform to it, because they
    are partial."""
    return _project_object(schema, lambda property: replace(property, read_optional=True))


def _prune(type: ObjectType, prefix: str, keep: Keep) -> ObjectType | None:
    kept: list[Property] = []
    for property in type.properties:
        path = prefix + property.name
        if not keep(path, property):
            continue
        if isinstance(property.type, ObjectType):
            inside = _prune(property.type, f"{path}.", keep)
            if inside is None:
                continue
            kept.append(property if inside is property.type else replace(property, type=inside))
        else:
            kept.append(property)
    return _with_properties(type, kept)


def _project_object(type: ObjectType, project: Callable[[Property], Property]) -> ObjectType:
    projected: list[Property] = []
    for property in type.properties:
        inside = _project(property.type, project)
        projected.append(project(property if inside is property.type else replace(property, type=inside)))
    return _with_properties(type, projected) or type


def _project(type: Type, project: Callable[[Property], Property]) -> Type:
    match type:
        case ObjectType():
            return _project_object(type, project)
        case ArrayType() | MapType():
            inside = _project(type.element_type, project)
            return type if inside is type.element_type else replace(type, element_type=inside)
        case _:
            return type


def _with_properties(type: ObjectType, properties: list[Property]) -> ObjectType | None:
    if not properties:
        return None
    same = len(properties) == len(type.properties) and all(map(lambda a, b: a is b, properties, type.properties))
    return type if same else ObjectType(tuple(properties))
