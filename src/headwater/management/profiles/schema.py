"""Reads, changes and previews the profile schema of a workspace.

The catalog has the new schema when a change returns. The worker then renames and removes stored attributes and resolves
all identities: an operation of kind ProfileSchemaUpdate. The operation is created inside the change of the catalog, as
its last step, so that two changes never overlap. The worker waits for the end of that change before it executes it.
"""

from dataclasses import replace
from typing import Final

import msgspec

from headwater.base.computing import Computing
from headwater.base.errors import Unavailable, Unprocessable
from headwater.catalog import Catalog, Workspace
from headwater.management.profiles.planning import (
    SchemaPlan,
    SchemaRequest,
    UserPipeline,
    can_be_primary,
    describe,
    plan_update,
)
from headwater.management.quotas import definition_size
from headwater.management.workspaces import find_workspace
from headwater.schemas import (
    DecimalType,
    IntType,
    IpType,
    ObjectType,
    Property,
    Schema,
    StringType,
    Type,
    UuidType,
    walk,
)
from headwater.state import StateStore
from headwater.state.operations import Operation, OperationStore, ProfileSchemaUpdateParameters

SMALL_PLAN_BYTES: Final = 16_384
"""Size of schemas and definitions up to which a change is planned on the event loop, in less than 20 ms."""
MAX_ATTEMPTS: Final = 3
"""Plans that are made when the workspace changes in the meantime."""
_PROPERTY_BYTES: Final = 64


def can_identify(type: Type) -> bool:
    """Return whether properties of a type can be identifiers."""
    if isinstance(type, DecimalType):
        return type.scale == 0
    return isinstance(type, StringType | IntType | UuidType | IpType)


def identifier_schema(schema: Schema) -> Schema | None:
    """Return the part of a profile schema whose properties can be identifiers; None if there are none."""
    properties: list[Property] = []
    for property in schema.properties:
        if isinstance(property.type, ObjectType):
            inner = identifier_schema(property.type)
            if inner is not None:
                properties.append(replace(property, type=inner))
        elif can_identify(property.type):
            properties.append(property)
    return ObjectType(tuple(properties)) if properties else None


async def update_profile_schema(
    catalog: Catalog,
    state: StateStore,
    operations: OperationStore,
    workspace: int,
    request: SchemaRequest,
    *,
    computing: Computing | None = None,
) -> None:
    """Store a profile schema, rename its properties in the workspace and its pipelines, and start to apply it.

    Raises BadRequest, Unprocessable with one of these codes, and Unavailable:

    - ConnectionNotExist: a primary source does not exist
    - InvalidAlterSchema: the schema cannot become this one, an identifier is removed, or data would be lost
    - OperationAlreadyExecuting: another change or an identity resolution executes, or the renames of the change before
      are not applied because its operation was cancelled or failed: it is started again
    - TooExpensive: there is too much to rename
    """
    for _ in range(MAX_ATTEMPTS):
        plan, inputs = await _plan(catalog, workspace, request, computing)
        if plan.removed and not request.allow_data_loss:
            connections = [connection.id for connection in catalog.connections(workspace)]
            if await state.has_identities(connections):
                raise _data_loss(plan.removed[0])
        async with catalog.change() as change:
            if _inputs(catalog, workspace) != inputs:
                continue
            await _check_applied(state, operations, plan.before)
            if plan.workspace != plan.before:
                change.update_workspace(plan.workspace)
            for id_, definition in plan.definitions.items():
                pipeline = catalog.pipeline(workspace, id_)
                assert pipeline is not None, "the inputs are those of the plan"
                change.update_pipeline(msgspec.structs.replace(pipeline, definition=definition))
            parameters = ProfileSchemaUpdateParameters(version=plan.profiles.version)
            await operations.create(workspace, parameters, None)
        return
    raise Unavailable("the workspace keeps changing: try again")


async def preview_profile_schema(
    catalog: Catalog, workspace: int, request: SchemaRequest, *, computing: Computing | None = None
) -> list[str]:
    """Return the steps of a change as text for people.

    Raises BadRequest, and Unprocessable with InvalidAlterSchema and TooExpensive.
    """
    plan, _ = await _plan(catalog, workspace, request, computing)
    return describe(plan)


async def latest_update(operations: OperationStore, workspace: int) -> Operation | None:
    """Return the operation of the latest change of the schema; None if it was never changed. Raises Unavailable."""
    return await operations.latest(workspace, "ProfileSchemaUpdate")


class _Inputs(msgspec.Struct, frozen=True):
    """The part of the catalog on which a plan depends."""

    workspace: Workspace
    pipelines: list[UserPipeline]
    sources: dict[int, bool]


def _inputs(catalog: Catalog, id_: int) -> _Inputs:
    connections = catalog.connections(id_)
    return _Inputs(
        find_workspace(catalog, id_),
        [
            UserPipeline(pipeline.id, connection.role, pipeline.definition)
            for connection in connections
            for pipeline in connection.pipelines
            if pipeline.target == "User"
        ],
        {each.id: can_be_primary(each, catalog.connectors[each.connector]) for each in connections},
    )


async def _plan(
    catalog: Catalog, workspace: int, request: SchemaRequest, computing: Computing | None
) -> tuple[SchemaPlan, _Inputs]:
    inputs = _inputs(catalog, workspace)
    profiles = inputs.workspace.profile_schema
    size = sum(definition_size(each.definition) for each in inputs.pipelines)
    for schema in (request.schema, None if profiles is None else profiles.schema):
        size += 0 if schema is None else _PROPERTY_BYTES * sum(1 for _ in walk(schema))
    if size <= SMALL_PLAN_BYTES or computing is None:
        plan = plan_update(inputs.workspace, request, inputs.pipelines, inputs.sources)
    else:
        owner = f"workspace {workspace}"
        plan = await computing.run(owner, plan_update, inputs.workspace, request, inputs.pipelines, inputs.sources)
    return plan, inputs


async def _check_applied(state: StateStore, operations: OperationStore, workspace: Workspace) -> None:
    """Raise Unprocessable with OperationAlreadyExecuting if the last renames are not applied, and start to apply them.

    A schema has only the renames of its own version, so a later version would lose them, and with them the values.
    """
    profiles = workspace.profile_schema
    if profiles is None or not profiles.renames:
        return
    if await state.read_profiles(lambda rows: rows.schema_version(workspace.id)) >= profiles.version:
        return
    await operations.create(workspace.id, ProfileSchemaUpdateParameters(version=profiles.version), None)
    raise Unprocessable(
        "OperationAlreadyExecuting", "the change of the profile schema before is still being applied: wait for its end"
    )


def _data_loss(path: str) -> Unprocessable:
    return Unprocessable(
        "InvalidAlterSchema",
        f"the values of property {path} would be deleted: confirm it with allowDataLoss",
        field="allowDataLoss",
    )
