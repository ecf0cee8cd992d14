"""Property paths, and lookups of properties in schemas.

A path is property names joined with points, `address.geo.lat`. Lookups follow objects only. `contains_path` and `walk`
also enter the elements of arrays and maps.
"""

from collections.abc import Iterator
from itertools import islice

from headwater.base.errors import BadRequest
from headwater.schemas.errors import InvalidPath, PropertyNotFound
from headwater.schemas.names import is_property_name
from headwater.schemas.types import MAX_PROPERTIES, ArrayType, MapType, ObjectType, Property, Schema, Type

Path = tuple[str, ...]
"""The components of a path: at least one."""


def parse_path(text: str) -> Path:
    """Return the components of the path. Raises InvalidPath if one of them is not a property name."""
    components = tuple(text.split("."))
    for component in components:
        if not is_property_name(component):
            raise InvalidPath(
                "must be property names joined with points, each a letter or underscore followed by letters, digits "
                "and underscores"
            )
    return components


def is_path(text: str) -> bool:
    """Return whether the text is a property path."""
    return all(map(is_property_name, text.split(".")))


def property_at(schema: Schema, path: Path | str) -> Property:
    """Return the property at the path, through objects only.

    Raises PropertyNotFound with the path up to the first missing component.
    """
    found, missing = resolve(schema, path)
    if missing is None and found is not None:
        return found
    if found is not None and not isinstance(found.type, ObjectType):
        raise PropertyNotFound(f"does not exist: its parent is of kind {found.type.kind}, not object", missing or "")
    raise PropertyNotFound("does not exist", missing or "")


def resolve(schema: Schema, path: Path | str) -> tuple[Property | None, str | None]:
    """Return the last property that exists along the path, and the path up to the first component that is missing.

    The property is None if the first component is missing. The path is None if all components exist.
    """
    components = parse_path(path) if isinstance(path, str) else path
    here: Type = schema
    found: Property | None = None
    for index, component in enumerate(components):
        below = here.get(component) if isinstance(here, ObjectType) else None
        if below is None:
            return found, ".".join(components[: index + 1])
        found, here = below, below.type
    return found, None


def contains_path(schema: Schema, path: Path | str) -> bool:
    """Return whether the schema has a property at the path, also inside arrays and maps."""
    components = parse_path(path) if isinstance(path, str) else path
    here: Type = schema
    for component in components:
        inside = unwrap_elements(here)
        below = inside.get(component) if isinstance(inside, ObjectType) else None
        if below is None:
            return False
        here = below.type
    return True


def walk(schema: Schema) -> Iterator[tuple[str, Property]]:
    """Yield every property with its path, parents before their children, also inside arrays and maps."""
    return _walk(schema, "", through_elements=True)


def walk_objects(schema: Schema) -> Iterator[tuple[str, Property]]:
    """Yield every property with its path, parents before their children, through objects only."""
    return _walk(schema, "", through_elements=False)


def unwrap_elements(type: Type) -> Type:
    """Return the innermost element type of nested arrays and maps; any other type is returned unchanged."""
    while isinstance(type, ArrayType | MapType):
        type = type.element_type
    return type


def check_size(schema: Schema | None, member: str) -> None:
    """Raise BadRequest with the member as its field for a schema of more than MAX_PROPERTIES.

    Types do not check this themselves, because schemas stored before the limit existed must stay readable.
    """
    if schema is not None and next(islice(walk(schema), MAX_PROPERTIES, None), None) is not None:
        rule = f"{member} must have at most {MAX_PROPERTIES} properties, those of the objects in it included"
        raise BadRequest(rule, field=member)


def _walk(type: ObjectType, prefix: str, *, through_elements: bool) -> Iterator[tuple[str, Property]]:
    for property in type.properties:
        path = prefix + property.name
        yield path, property
        inside = unwrap_elements(property.type) if through_elements else property.type
        if isinstance(inside, ObjectType):
            yield from _walk(inside, f"{path}.", through_elements=through_elements)
