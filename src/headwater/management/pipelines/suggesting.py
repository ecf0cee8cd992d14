"""Suggests pipelines: the definition that suits most people, ready to be created.

An event type suggests its own filter and mapping. For users, properties of both sides whose names have the same meaning
are paired.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

import msgspec

from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import Catalog, Connection, Definition, TransformationDefinition
from headwater.connectors.connector import Target
from headwater.connectors.contract import EventType
from headwater.connectors.environment import DEFAULT_ENVIRONMENT, ConnectorEnvironment
from headwater.filters import parse_text
from headwater.management.applications import offered_event_types, user_schemas
from headwater.management.lookup import find_connection
from headwater.management.pipelines.kinds import (
    COLLECT_EVENTS,
    EXPORT_TO_APPLICATION,
    IMPORT_FROM_APPLICATION,
    IMPORT_FROM_EVENTS,
    INCOMING_EVENT_SCHEMA,
    SEND_EVENTS,
    find_allowed_kind,
    read_target,
)
from headwater.management.pipelines.pairing import choose_matching, leaves, map_others, pair_properties, reads_property
from headwater.management.pipelines.requests import CreatePipeline
from headwater.schemas import ObjectType, Schema, select
from headwater.transforms.mapping import CompiledMapping

_MAX_NAME_CHARACTERS: Final = 60


async def suggest_pipeline(
    catalog: Catalog,
    workspace: int,
    connection: int,
    target: str,
    event_type: str = "",
    environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT,
) -> CreatePipeline:
    """Return the request that creates the pipeline as most people want it, enabled.

    Raises BadRequest, also for databases and file storages; NotFound; Unprocessable with EventTypeNotExist or
    SchemaNotAligned; Unavailable.
    """
    chosen = read_target(target)
    found = find_connection(catalog, workspace, connection, field="connection")
    kind = find_allowed_kind(catalog.connectors, found, chosen)
    if bool(event_type) != (kind is SEND_EVENTS):
        rule = "is not allowed" if event_type else "is required"
        raise BadRequest(f"eventType {rule} for pipelines that {kind.does}", field="eventType")
    if kind is SEND_EVENTS:
        offered = await offered_event_types(catalog, found, environment)
        return await asyncio.to_thread(_send_events, found, event_type, offered)
    if kind is COLLECT_EVENTS:
        return _request(found, chosen, "Events")
    settings = catalog.workspace(workspace)
    profiles = None if settings is None or settings.profile_schema is None else settings.profile_schema.schema
    if kind is IMPORT_FROM_EVENTS:
        return await asyncio.to_thread(_import_from_events, found, profiles)
    if kind not in (IMPORT_FROM_APPLICATION, EXPORT_TO_APPLICATION):
        raise BadRequest(f"pipelines that {kind.does} cannot be suggested", field="connection")
    if settings is None or profiles is None:
        raise Unprocessable("SchemaNotAligned", "the workspace has no profile schema: define it first")
    schemas = await user_schemas(catalog, workspace, connection, environment)
    if kind is IMPORT_FROM_APPLICATION:
        return await asyncio.to_thread(_import_users, found, schemas.source, profiles)
    identifiers = [each.path for each in settings.resolution.identifiers]
    return await asyncio.to_thread(_export_profiles, found, profiles, schemas.destination, identifiers)


def suggested_mapping(schema: Schema) -> dict[str, str]:
    """Return the mapping that the schema of an event type suggests."""
    return {each.name: each.prefilled for each in schema.properties if each.prefilled}


def output_schema(schema: Schema, mapping: Iterable[str]) -> Schema:
    """Return the output schema of a pipeline that maps these properties of an event type."""
    mapped = set(mapping)
    return ObjectType(tuple(replace(each, prefilled="") for each in schema.properties if each.name in mapped))


def _send_events(connection: Connection, id_: str, offered: Sequence[EventType]) -> CreatePipeline:
    event_type = next((each for each in offered if each.id == id_), None)
    if event_type is None:
        raise Unprocessable("EventTypeNotExist", f'event type "{id_[:100]}" does not exist', field="eventType")
    request = _request(connection, "Event", event_type.name, event_type=id_, recommended_filter=event_type.filter)
    mapping = {} if event_type.schema is None else suggested_mapping(event_type.schema)
    if event_type.schema is None or not mapping:
        return request
    return _with_mapping(request, mapping, None, output_schema(event_type.schema, mapping))


def _import_from_events(connection: Connection, profiles: Schema | None) -> CreatePipeline:
    """Give each property of profiles the trait with its name, in any spelling. Without them, import identities only."""
    if profiles is None:
        return _request(connection, "User", "Users")
    mapping: dict[str, str] = {}
    for path in leaves(profiles):
        spellings = dict.fromkeys((path, _camel_case(path), _snake_case(path)))
        traits = ", ".join(f"traits.{spelling}" for spelling in spellings)
        expression = f"coalesce({traits})" if len(spellings) > 1 else traits
        if reads_property(path, expression, INCOMING_EVENT_SCHEMA, profiles):
            mapping[path] = expression
    if not mapping:
        return _request(connection, "User", "Users")
    request = _request(connection, "User", "Users", recommended_filter='type is "identify"')
    return _with_mapping(request, mapping, None, select(profiles, mapping))


def _import_users(connection: Connection, users: Schema | None, profiles: Schema) -> CreatePipeline:
    pairs = {} if users is None else pair_properties(users, profiles)
    if not pairs:
        raise Unprocessable("SchemaNotAligned", "no property of the users has the meaning of one of the profiles")
    request = _request(connection, "User", "Users")
    return _with_mapping(request, pairs, select(users, pairs.values()), select(profiles, pairs))


def _export_profiles(
    connection: Connection, profiles: Schema, users: Schema | None, identifiers: Sequence[str]
) -> CreatePipeline:
    pairs = {} if users is None else pair_properties(profiles, users)
    matching = None if users is None else choose_matching(pairs, profiles, users, identifiers)
    if users is None or matching is None:
        raise Unprocessable("SchemaNotAligned", "no property of the profiles identifies a user of the application")
    mapping = {**pairs, **map_others(pairs, profiles, users)}
    del mapping[matching.output]
    if not mapping:
        raise Unprocessable("SchemaNotAligned", "no property of the profiles has the meaning of one of the users")
    request = _with_mapping(
        _request(connection, "User", "Profiles"),
        mapping,
        select(profiles, (*CompiledMapping(mapping, profiles, users).in_paths, matching.input)),
        select(users, (*mapping, matching.output)),
    )
    definition = msgspec.structs.replace(request.definition, matching=matching, export_mode="CreateOrUpdate")
    return msgspec.structs.replace(request, definition=definition)


def _camel_case(path: str) -> str:
    first, *others = path.split("_")
    return "".join((first, *(each[:1].upper() + each[1:] for each in others)))


def _snake_case(path: str) -> str:
    return "".join(f"_{each.lower()}" if each.isupper() and index else each for index, each in enumerate(path))


def _request(
    connection: Connection, target: Target, name: str, *, event_type: str = "", recommended_filter: str = ""
) -> CreatePipeline:
    return CreatePipeline(
        connection=connection.id,
        target=target,
        name=name[:_MAX_NAME_CHARACTERS],
        enabled=True,
        event_type=event_type,
        filter=parse_text(recommended_filter) if recommended_filter else None,
    )


def _with_mapping(
    request: CreatePipeline, mapping: dict[str, str], in_schema: Schema | None, out_schema: Schema | None
) -> CreatePipeline:
    transformation = TransformationDefinition(mapping=mapping, function=None)
    return msgspec.structs.replace(
        request, in_schema=in_schema, out_schema=out_schema, definition=Definition(transformation=transformation)
    )
