"""Renames profile properties in the definitions of pipelines.

Two kinds of pipelines are not changed, because a person must decide: those with a function, whose code has the names
too, and those that use a removed property. Unless they fit the new schema nevertheless, their records fail with that
reason until the pipeline is edited.
"""

from dataclasses import replace

import msgspec

from headwater.catalog import Definition, Matching, Renaming, TransformationDefinition
from headwater.connectors.connector import Role
from headwater.filters import Filter, parse_json
from headwater.schemas import ObjectType, Schema, is_property_name, parse_schema, serialise, walk_objects
from headwater.transforms.mapping import rename_properties


def rename_in_definition(definition: Definition, role: Role, renaming: Renaming) -> Definition:
    """Return the definition of a User pipeline with renamed profile properties.

    The profile is the output of a source and the input of a destination. Takes time in proportion to the definition.
    """
    transformation = definition.transformation
    if transformation is not None and transformation.function is not None:
        return definition
    text = definition.out_schema if role == "Source" else definition.in_schema
    schema = None if text is None else parse_schema(text)
    if schema is None:
        return definition
    moved = {path: renaming.new_path(path) for path, _ in walk_objects(schema)}
    if None in moved.values() or all(old == new for old, new in moved.items()):
        return definition
    renamed = serialise(_rename_schema(schema, "", renaming)).decode()
    if role == "Source":
        return msgspec.structs.replace(
            definition, out_schema=renamed, transformation=_rename_output(transformation, renaming)
        )
    matching = definition.matching
    return msgspec.structs.replace(
        definition,
        in_schema=renamed,
        transformation=_rename_input(transformation, renaming),
        filter=_rename_filter(definition.filter, renaming),
        matching=None if matching is None else Matching(rename_path(matching.input, renaming), matching.output),
        order_by=rename_path(definition.order_by, renaming) if definition.order_by else "",
    )


def rename_path(path: str, renaming: Renaming) -> str:
    """Return the path that a property has afterwards; that of a removed property stays."""
    return renaming.new_path(path) or path


def _rename_schema(schema: ObjectType, prefix: str, renaming: Renaming) -> Schema:
    properties = []
    for property in schema.properties:
        path = prefix + property.name
        if isinstance(property.type, ObjectType):
            property = replace(property, type=_rename_schema(property.type, f"{path}.", renaming))
        properties.append(replace(property, name=rename_path(path, renaming).rpartition(".")[2]))
    return ObjectType(tuple(properties))


def _rename_output(
    transformation: TransformationDefinition | None, renaming: Renaming
) -> TransformationDefinition | None:
    if transformation is None or transformation.mapping is None:
        return transformation
    mapping = {rename_path(path, renaming): text for path, text in transformation.mapping.items()}
    return TransformationDefinition(mapping=mapping)


def _rename_input(
    transformation: TransformationDefinition | None, renaming: Renaming
) -> TransformationDefinition | None:
    if transformation is None or transformation.mapping is None:
        return transformation

    def rename(names: tuple[str, ...]) -> tuple[str, ...]:
        # After the properties of objects there may be keys of maps and JSON values, which can be any text.
        end = next((index for index, name in enumerate(names) if not is_property_name(name)), len(names))
        return (*rename_path(".".join(names[:end]), renaming).split("."), *names[end:])

    mapping = {path: rename_properties(text, rename) for path, text in transformation.mapping.items()}
    return TransformationDefinition(mapping=mapping)


def _rename_filter(text: str | None, renaming: Renaming) -> str | None:
    found = None if text is None else parse_json(text)
    if found is None:
        return text
    conditions = (
        msgspec.structs.replace(each, property=rename_path(each.property, renaming)) for each in found.conditions
    )
    renamed = Filter(found.logical, tuple(conditions))
    return msgspec.json.encode(renamed).decode()
