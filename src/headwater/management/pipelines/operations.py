"""Creates, reads, replaces, enables, schedules and deletes pipelines, and drafts them for trials."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final, get_args

import msgspec

from headwater.base.computing import Computing
from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import Catalog, Connection, Definition, Pipeline
from headwater.catalog.model import SchedulePeriod
from headwater.connectors.connector import Connector, Target
from headwater.connectors.environment import DEFAULT_ENVIRONMENT, ConnectorEnvironment
from headwater.delivery.preparing import check_event_type
from headwater.management.applications import offered_event_types
from headwater.management.lookup import find_connection, find_pipeline
from headwater.management.pipelines.alignment import AlignmentCheck
from headwater.management.pipelines.draft import Draft
from headwater.management.pipelines.functions import check_function_loads
from headwater.management.pipelines.kinds import COLLECT_EVENTS, SEND_EVENTS, Kind, find_allowed_kind, read_target
from headwater.management.pipelines.requests import CreatePipeline, UpdatePipeline
from headwater.management.pipelines.rules import check
from headwater.management.quotas import DEFAULT_QUOTAS, Quotas
from headwater.schemas import parse_schema
from headwater.transforms.functions import LANGUAGES, Runner

_PERIODS: Final[tuple[SchedulePeriod, ...]] = get_args(SchedulePeriod)
_MINUTES_A_DAY: Final = 1_440


class DraftPipeline(msgspec.Struct, frozen=True):
    """A pipeline that is not stored."""

    connection: Connection
    pipeline: Pipeline
    saved: Pipeline | None
    """The stored pipeline that it would replace."""


Define = Callable[[Connection, Target, str], Awaitable[Definition]]
"""Returns the definition of a pipeline of this connection, target and event type. Raises what `build_definition`
raises."""


def build_definition(
    connectors: Mapping[str, Connector],
    connection: Connection,
    target: Target,
    event_type: str,
    request: CreatePipeline | UpdatePipeline,
) -> Definition:
    """Return the checked definition that a request describes. Pure, but slow for a large request.

    Raises BadRequest; Unprocessable with FormatNotExist, InvalidSettings or UnsupportedLanguage.
    """
    draft = Draft(
        kind=find_allowed_kind(connectors, connection, target),
        target=target,
        connection=connection,
        connector=connectors[connection.connector],
        event_type=event_type,
        name=request.name,
        definition=request.definition,
        filter=request.filter,
        in_schema=request.in_schema,
        out_schema=request.out_schema,
    )
    check(draft, connectors, LANGUAGES)
    return draft.definition


async def create_pipeline(
    catalog: Catalog,
    workspace: int,
    request: CreatePipeline,
    *,
    functions: Runner | None = None,
    computing: Computing | None = None,
    define: Define | None = None,
    quotas: Quotas = DEFAULT_QUOTAS,
    environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT,
) -> Pipeline:
    """Create a pipeline.

    `functions` loads the function of a pipeline that is created enabled; without it no function is loaded. `computing`
    runs long computations. `define` returns the definition; without it the definition in the request is checked on the
    event loop. `environment` decides which addresses are connected to.

    Raises BadRequest, NotFound if the connection does not exist, and Unprocessable with one of these codes:

    - FormatNotExist, InvalidSettings, UnsupportedLanguage, EventTypeNotExist, SchemaNotAligned: the definition is wrong
    - EngineNotAvailable, TransformationFailed: it was to be enabled, and cannot run or does not compile
    - TooManyPipelines, DefinitionsTooLarge: a quota is reached
    - TargetExist: the connection already has a pipeline that collects its events
    """
    target = read_target(request.target)
    connection = find_connection(catalog, workspace, request.connection, field="connection")
    kind = find_allowed_kind(catalog.connectors, connection, target)
    definition = await _defined(catalog, connection, target, request.event_type, request, define)
    await _check_event_type(catalog, connection, kind, request.event_type, definition, environment)
    alignment = AlignmentCheck(catalog, connection, target, definition)
    await alignment.run(computing)
    if request.enabled:
        _check_engine(catalog.connectors, connection, kind, definition)
        await _check_function(kind, definition, workspace, functions, computing)
    await quotas.measure(catalog, workspace)
    async with catalog.change() as change:
        connection = find_connection(catalog, workspace, request.connection, field="connection")
        alignment.confirm()
        quotas.check_pipeline(catalog, connection, definition)
        if kind is COLLECT_EVENTS and any(pipeline.target == "Event" for pipeline in connection.pipelines):
            raise Unprocessable(
                "TargetExist", f"connection {connection.id} has a pipeline with target Event already", field="target"
            )
        pipeline = Pipeline(
            id=change.new_id(),
            workspace=workspace,
            connection=connection.id,
            name=request.name,
            target=target,
            enabled=request.enabled,
            created_at=change.now,
            event_type=request.event_type,
            schedule_start=_schedule_start(connection, change.new_id()) if kind.batch else None,
            definition=definition,
        )
        change.add_pipeline(pipeline)
    return pipeline


async def draft_pipeline(
    catalog: Catalog,
    workspace: int,
    request: CreatePipeline,
    replaced: int | None = None,
    *,
    functions: Runner | None = None,
    computing: Computing | None = None,
    define: Define | None = None,
    environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT,
) -> DraftPipeline:
    """Return a pipeline as it would be stored, and store nothing.

    `replaced` is the pipeline whose definition the request would replace; None for a request to create one. Raises as
    `create_pipeline`, but for quotas, and BadRequest for a pipeline that does not read events. Its function must
    compile even if it is disabled, because its effects are to be shown.
    """
    target = read_target(request.target)
    saved = None if replaced is None else find_pipeline(catalog, workspace, replaced, field="pipeline")
    connection = find_connection(catalog, workspace, request.connection, field="connection")
    if saved is not None:
        _check_is_unchanged(saved, connection, target, request.event_type)
    kind = find_allowed_kind(catalog.connectors, connection, target)
    if not kind.reads_events:
        raise BadRequest(f"pipelines that {kind.does} cannot be tried: only those that read events", field="target")
    definition = await _defined(catalog, connection, target, request.event_type, request, define)
    await _check_event_type(catalog, connection, kind, request.event_type, definition, environment)
    await AlignmentCheck(catalog, connection, target, definition).run(computing)
    if functions is not None:
        owner = f"workspace {workspace}"
        await check_function_loads(functions, computing or Computing(), owner, kind, definition)
    pipeline = Pipeline(
        id=0 if saved is None else saved.id,
        workspace=workspace,
        connection=connection.id,
        name=request.name,
        target=target,
        enabled=request.enabled,
        created_at=connection.created_at if saved is None else saved.created_at,
        event_type=request.event_type,
        definition=definition,
    )
    return DraftPipeline(connection, pipeline, saved)


async def get_pipeline(catalog: Catalog, workspace: int, id_: int) -> Pipeline:
    """Return the pipeline. Raises BadRequest, NotFound."""
    return find_pipeline(catalog, workspace, id_)


async def update_pipeline(
    catalog: Catalog,
    workspace: int,
    id_: int,
    request: UpdatePipeline,
    *,
    functions: Runner | None = None,
    computing: Computing | None = None,
    define: Define | None = None,
    quotas: Quotas = DEFAULT_QUOTAS,
    environment: ConnectorEnvironment = DEFAULT_ENVIRONMENT,
) -> Pipeline:
    """Replace all settable members; connection, target, event type and schedule stay. Raises as `create_pipeline`."""
    old = find_pipeline(catalog, workspace, id_)
    connection = find_connection(catalog, workspace, old.connection)
    kind = find_allowed_kind(catalog.connectors, connection, old.target)
    definition = await _defined(catalog, connection, old.target, old.event_type, request, define)
    await _check_event_type(catalog, connection, kind, old.event_type, definition, environment)
    alignment = AlignmentCheck(catalog, connection, old.target, definition)
    await alignment.run(computing)
    if request.enabled:
        _check_engine(catalog.connectors, connection, kind, definition)
        await _check_function(kind, definition, workspace, functions, computing)
    await quotas.measure(catalog, workspace)
    async with catalog.change() as change:
        old = find_pipeline(catalog, workspace, id_)
        connection = find_connection(catalog, workspace, old.connection)
        alignment.confirm()
        quotas.check_pipeline(catalog, connection, definition, instead_of=old)
        new = msgspec.structs.replace(old, name=request.name, enabled=request.enabled, definition=definition)
        if new != old:
            change.update_pipeline(new)
    return new


async def set_pipeline_status(
    catalog: Catalog,
    workspace: int,
    id_: int,
    *,
    enabled: bool,
    functions: Runner | None = None,
    computing: Computing | None = None,
) -> Pipeline:
    """Enable or disable a pipeline.

    Raises BadRequest, NotFound, and Unprocessable with EngineNotAvailable and TransformationFailed.
    """
    await catalog.refresh()  # the result of this lookup is reused in the change
    old = find_pipeline(catalog, workspace, id_)
    connection = find_connection(catalog, workspace, old.connection)
    kind = find_allowed_kind(catalog.connectors, connection, old.target)
    if enabled:
        _check_engine(catalog.connectors, connection, kind, old.definition)
        await _check_function(kind, old.definition, workspace, functions, computing)
    async with catalog.change() as change:
        old = find_pipeline(catalog, workspace, id_)
        new = msgspec.structs.replace(old, enabled=enabled)
        if new != old:
            change.update_pipeline(new)
    return new


async def set_pipeline_schedule(catalog: Catalog, workspace: int, id_: int, period: str | None) -> Pipeline:
    """Set the interval at which a pipeline runs; None disables the schedule. Raises BadRequest, NotFound."""
    async with catalog.change() as change:
        old = find_pipeline(catalog, workspace, id_)
        if old.target == "Event":
            raise BadRequest("a pipeline with target Event has no schedule", field="id")
        if period is not None and period not in _PERIODS:
            raise BadRequest(f"period must be null or one of {', '.join(_PERIODS)}", field="period")
        new = msgspec.structs.replace(old, schedule_period=period)
        if new != old:
            change.update_pipeline(new)
    return new


async def delete_pipeline(catalog: Catalog, workspace: int, id_: int) -> None:
    """Delete the pipeline. Raises BadRequest, NotFound."""
    async with catalog.change() as change:
        change.remove_pipeline(find_pipeline(catalog, workspace, id_))


def _check_is_unchanged(saved: Pipeline, connection: Connection, target: Target, event_type: str) -> None:
    """Check that a draft has the members that a change cannot have. Raises BadRequest."""
    for member, old, new in (
        ("connection", saved.connection, connection.id),
        ("target", saved.target, target),
        ("eventType", saved.event_type, event_type),
    ):
        if old != new:
            raise BadRequest(f"{member} must be {old!r}, as in pipeline {saved.id}", field=member)


async def _defined(
    catalog: Catalog,
    connection: Connection,
    target: Target,
    event_type: str,
    request: CreatePipeline | UpdatePipeline,
    define: Define | None,
) -> Definition:
    if define is not None:
        return await define(connection, target, event_type)
    return build_definition(catalog.connectors, connection, target, event_type, request)


async def _check_event_type(
    catalog: Catalog,
    connection: Connection,
    kind: Kind,
    event_type: str,
    definition: Definition,
    environment: ConnectorEnvironment,
) -> None:
    if kind is SEND_EVENTS:
        out_schema = parse_schema(definition.out_schema or "null")
        offered = await offered_event_types(catalog, connection, environment)
        check_event_type(event_type, out_schema, offered)


def _check_engine(
    connectors: Mapping[str, Connector], connection: Connection, kind: Kind, definition: Definition
) -> None:
    """Check that the connector, and the format of files, of a pipeline to be enabled are implemented and installed."""
    connector = connectors[connection.connector]
    is_reachable = kind.capability is None or getattr(connector.engine, kind.capability) is not None
    if not is_reachable:
        raise Unprocessable(
            "EngineNotAvailable",
            f"pipelines that {kind.does} cannot run with {connector.label} yet: leave it disabled",
            field="enabled",
        )
    if definition.format and connectors[definition.format].engine.file_format is None:
        label = connectors[definition.format].label
        raise Unprocessable(
            "EngineNotAvailable", f"files of format {label} cannot be used yet: leave it disabled", field="enabled"
        )
    for needed in (connector, *([connectors[definition.format]] if definition.format else ())):
        if needed.driver is not None and not needed.is_installed:
            raise Unprocessable(
                "EngineNotAvailable",
                f"the library of {needed.label} is not installed: {needed.driver.install_command}",
                field="enabled",
            )


async def _check_function(
    kind: Kind, definition: Definition, workspace: int, functions: Runner | None, computing: Computing | None
) -> None:
    """Check that the function of a pipeline to be enabled loads. Runs outside of a change, because a change blocks all
    others."""
    if functions is not None:
        await check_function_loads(functions, computing or Computing(), f"workspace {workspace}", kind, definition)


def _schedule_start(connection: Connection, random: int) -> int:
    """Return the minute of the day from which schedules count: equal for all pipelines of a connection."""
    present = [pipeline.schedule_start for pipeline in connection.pipelines if pipeline.schedule_start is not None]
    return present[0] if present else random % _MINUTES_A_DAY
