"""Plans a change of the profile schema: the workspace and the pipelines afterwards. Pure."""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import (
    Connection,
    Definition,
    ProfileSchema,
    Renaming,
    ResolutionSettings,
    UiPreferences,
    Workspace,
    encode_definition,
)
from headwater.catalog.profiles import encode_profile_schema
from headwater.connectors.connector import Connector, Role
from headwater.management.names import check_identifier
from headwater.management.pipelines.rules import MAX_DEFINITION_BYTES
from headwater.management.profiles.differences import SchemaDifference, check_re_paths, find_difference
from headwater.management.profiles.renaming import rename_in_definition
from headwater.profiles.alignment import find_misalignment
from headwater.schemas import (
    ArrayType,
    InvalidPath,
    InvalidType,
    ObjectType,
    PropertyNotFound,
    Schema,
    check_profile_schema,
    check_size,
    property_at,
)

MAX_SCHEMA_BYTES: Final = 1 << 20
"""Maximum size of a profile schema, as stored JSON."""


class SchemaRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A profile schema to store."""

    schema: Schema | None
    primary_sources: dict[str, int] | None = {}
    """For paths of properties: the source connection whose values take precedence. None keeps those that there are."""
    re_paths: dict[str, object] = {}
    """See `RePaths`; the values are unchecked."""
    allow_data_loss: bool = False


class UserPipeline(msgspec.Struct, frozen=True):
    """The parts of a User pipeline that the profile schema concerns."""

    id: int
    role: Role
    definition: Definition


class SchemaPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A change of the profile schema."""

    before: Workspace
    workspace: Workspace
    definitions: dict[int, Definition]
    """The new definitions of pipelines that change."""
    difference: SchemaDifference
    suspended: tuple[int, ...]
    """The pipelines that no longer fit the schema."""

    @property
    def removed(self) -> list[str]:
        """Return the paths of the properties whose values are deleted."""
        return [each.old for each in self.difference.renames if each.new is None]

    @property
    def profiles(self) -> ProfileSchema:
        """Return the profile schema afterwards."""
        assert self.workspace.profile_schema is not None, "a plan has a schema"
        return self.workspace.profile_schema


def check_schema(schema: Schema | None, member: str = "schema") -> Schema:
    """Return a profile schema of a request. Raises BadRequest."""
    if schema is None:
        raise BadRequest(f"{member} is required", field=member)
    check_size(schema, member)
    try:
        check_profile_schema(schema)
    except InvalidType as error:
        raise BadRequest(f"{member}: property {error.path} {error.rule}", field=f"{member}.{error.path}") from error
    if len(encode_profile_schema(ProfileSchema(schema=schema))) > MAX_SCHEMA_BYTES:
        raise BadRequest(f"{member} must have at most {MAX_SCHEMA_BYTES} bytes of JSON", field=member)
    return schema


def plan_update(
    workspace: Workspace,
    request: SchemaRequest,
    pipelines: Sequence[UserPipeline],
    sources: Mapping[int, bool],
) -> SchemaPlan:
    """Return the change that a request describes.

    `sources` are the connections of the workspace; true for those that may be primary sources. Raises BadRequest,
    Unprocessable with ConnectionNotExist and InvalidAlterSchema.
    """
    schema = check_schema(request.schema)
    re_paths = check_re_paths(schema, request.re_paths)
    if request.primary_sources is not None:
        _check_primary_sources(schema, request.primary_sources, sources)
    old = workspace.profile_schema
    difference = find_difference(None if old is None else old.schema, schema, re_paths)
    renaming = Renaming(difference.renames)
    primary_sources = request.primary_sources
    if primary_sources is None:
        primary_sources = _rename_sources({} if old is None else old.primary_sources, renaming)
    profiles = _next_version(old, schema, primary_sources, difference)
    after = msgspec.structs.replace(
        workspace,
        profile_schema=profiles,
        resolution=_rename_identifiers(workspace.resolution, renaming),
        ui_preferences=_rename_preferences(workspace.ui_preferences, renaming),
    )
    definitions = _rename_in_pipelines(pipelines, renaming)
    return SchemaPlan(
        before=workspace,
        workspace=after,
        definitions=definitions,
        difference=difference,
        suspended=_suspended(pipelines, definitions, old, profiles),
    )


def can_be_primary(connection: Connection, connector: Connector) -> bool:
    """Return whether a connection can import users."""
    capabilities = connector.capabilities(connection.role)
    return connection.role == "Source" and capabilities is not None and "User" in capabilities.targets


def describe(plan: SchemaPlan) -> list[str]:
    """Return the steps of a change, in the order of their execution, as text for people."""
    before, after = plan.before, plan.workspace
    steps = []
    for rename in plan.difference.renames:
        steps.append(f"DROP {rename.old}" if rename.new is None else f"RENAME {rename.old} TO {rename.new}")
    steps += [f"ADD {path} {property_at(plan.profiles.schema, path).type}" for path in plan.difference.added]
    for old, new in zip(before.resolution.identifiers, after.resolution.identifiers, strict=True):
        if old.path != new.path:
            steps.append(f"RENAME IDENTIFIER {old.path} TO {new.path}")
    steps += [f"UPDATE PIPELINE {id_}" for id_ in sorted(plan.definitions)]
    steps += [f"SUSPEND PIPELINE {id_}" for id_ in sorted(plan.suspended)]
    if before.profile_schema is None or before.profile_schema.version != plan.profiles.version:
        steps.append("RESOLVE IDENTITIES")
    return steps


def _check_primary_sources(schema: Schema, given: Mapping[str, int], sources: Mapping[int, bool]) -> None:
    for path, connection in given.items():
        try:
            property_ = property_at(schema, path)
        except (InvalidPath, PropertyNotFound) as error:
            raise BadRequest(f"primarySources: {path[:100]!r} {error.rule}", field="primarySources") from error
        field = f"primarySources.{path}"
        if isinstance(property_.type, ObjectType | ArrayType):
            raise BadRequest(f"{field} must not be of kind {property_.type.kind}", field=field)
        check_identifier(connection, "connection identifier", field=field)
    for path, connection in given.items():
        field = f"primarySources.{path}"
        if connection not in sources:
            raise Unprocessable("ConnectionNotExist", f"connection {connection} does not exist", field=field)
        if not sources[connection]:
            raise BadRequest(f"connection {connection} is not a source that imports users", field=field)


def _rename_sources(primary_sources: Mapping[str, int], renaming: Renaming) -> dict[str, int]:
    renamed = ((renaming.new_path(path), connection) for path, connection in primary_sources.items())
    return {path: connection for path, connection in renamed if path is not None}


def _next_version(
    old: ProfileSchema | None, schema: Schema, primary_sources: dict[str, int], difference: SchemaDifference
) -> ProfileSchema:
    """Return the schema with the next version, or the version before if profiles do not depend on the change."""
    if old is None:
        return ProfileSchema(schema=schema, primary_sources=primary_sources)
    if difference.renames or difference.added or primary_sources != old.primary_sources:
        return ProfileSchema(
            schema=schema, primary_sources=primary_sources, version=old.version + 1, renames=difference.renames
        )
    return msgspec.structs.replace(old, schema=schema)


def _rename_identifiers(settings: ResolutionSettings, renaming: Renaming) -> ResolutionSettings:
    identifiers = []
    for identifier in settings.identifiers:
        path = renaming.new_path(identifier.path)
        if path is None:
            raise Unprocessable(
                "InvalidAlterSchema",
                f"property {identifier.path} is an identifier: remove it from the identifiers first",
                field=f"schema.{identifier.path}",
            )
        identifiers.append(msgspec.structs.replace(identifier, path=path))
    return msgspec.structs.replace(settings, identifiers=tuple(identifiers))


def _rename_preferences(preferences: UiPreferences, renaming: Renaming) -> UiPreferences:
    paths = msgspec.structs.asdict(preferences)
    return UiPreferences(**{member: renaming.new_path(path) or "" for member, path in paths.items() if path})


def _rename_in_pipelines(pipelines: Collection[UserPipeline], renaming: Renaming) -> dict[int, Definition]:
    definitions: dict[int, Definition] = {}
    for pipeline in pipelines if renaming else ():
        new = rename_in_definition(pipeline.definition, pipeline.role, renaming)
        if new is pipeline.definition:
            continue
        if len(encode_definition(new)) > MAX_DEFINITION_BYTES:
            raise Unprocessable(
                "InvalidAlterSchema",
                f"with the new names, the definition of pipeline {pipeline.id} has more than {MAX_DEFINITION_BYTES} "
                "bytes of JSON",
                field="rePaths",
            )
        definitions[pipeline.id] = new
    return definitions


def _suspended(
    pipelines: Collection[UserPipeline],
    definitions: Mapping[int, Definition],
    old: ProfileSchema | None,
    new: ProfileSchema,
) -> tuple[int, ...]:
    found = []
    for pipeline in pipelines:
        definition = definitions.get(pipeline.id, pipeline.definition)
        if find_misalignment(definition, pipeline.role, "User", new) is not None:
            before = find_misalignment(pipeline.definition, pipeline.role, "User", old)
            if before is None:
                found.append(pipeline.id)
    return tuple(found)
