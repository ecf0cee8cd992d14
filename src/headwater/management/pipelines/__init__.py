"""Pipelines of the connections that receive events: one that stores their events, any number that make identities.

Filters and transformations are documented but not built: a request that is right but for them is answered 501.
"""

from typing import Final

import msgspec

from headwater.base.errors import BadRequest, Unimplemented, Unprocessable
from headwater.catalog import Catalog, Connection, Pipeline
from headwater.connectors.connector import Target
from headwater.management.lookup import find_connection, find_pipeline
from headwater.management.names import check_name

_TARGETS: Final[dict[str, Target]] = {"User": "User", "Event": "Event"}

_REFUSED_BEFORE_NAME: Final = ("eventType", "inSchema", "format")
_REFUSED_AFTER_NAME: Final = (
    "path",
    "tableName",
    "sheet",
    "exportMode",
    "matching",
    "compression",
    "userIDColumn",
    "updatedAtColumn",
    "updatedAtFormat",
    "orderBy",
    "incremental",
    "formatSettings",
    "query",
    "tableKey",
    "updateOnDuplicates",
)
"""The members that other kinds of pipelines have, in the documented order of the checks."""

_NOT_BUILT: Final = {
    "filter": "filters are not built yet",
    "transformation": "transformations are not built yet",
    "outSchema": "output schemas are not built yet: they come with transformations",
}


class CreatePipeline(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a create request.

    `others` are the documented names of the remaining members that were given; one that was absent, null, false or
    empty was not given.
    """

    connection: int
    target: str
    name: str
    enabled: bool = False
    others: frozenset[str] = frozenset()


class UpdatePipeline(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an update request. It replaces: `enabled` left out disables. `others` as in `CreatePipeline`."""

    name: str
    enabled: bool = False
    others: frozenset[str] = frozenset()


async def create_pipeline(catalog: Catalog, workspace: int, request: CreatePipeline) -> Pipeline:
    """Create a pipeline.

    Raises BadRequest; NotFound when the connection does not exist, although the body names it; Unimplemented;
    Unprocessable with TargetExist for the second pipeline of a connection that stores its events.
    """
    if not request.target:
        raise BadRequest("target is required", field="target")
    if request.target not in _TARGETS:
        raise BadRequest(f"target is none of {', '.join(_TARGETS)}", field="target")
    target = _TARGETS[request.target]
    async with catalog.change() as change:
        connection = find_connection(catalog, workspace, request.connection, field="connection")
        _check_target(catalog, connection, target)
        _check_members(target, request.name, request.others)
        if target == "Event" and any(pipeline.target == "Event" for pipeline in connection.pipelines):
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
        )
        await change.add_pipeline(pipeline)
    return pipeline


async def get_pipeline(catalog: Catalog, workspace: int, id_: int) -> Pipeline:
    """Raises BadRequest, NotFound."""
    return find_pipeline(catalog, workspace, id_)


async def update_pipeline(catalog: Catalog, workspace: int, id_: int, request: UpdatePipeline) -> Pipeline:
    """Replace what can be set; connection and target stay. Raises BadRequest, NotFound, Unimplemented."""
    async with catalog.change() as change:
        old = find_pipeline(catalog, workspace, id_)
        # The event type, like connection and target, cannot be changed, and is ignored when it is sent.
        _check_members(old.target, request.name, request.others - {"eventType"})
        new = msgspec.structs.replace(old, name=request.name, enabled=request.enabled)
        if new != old:
            await change.update_pipeline(new)
    return new


async def set_pipeline_status(catalog: Catalog, workspace: int, id_: int, *, enabled: bool) -> Pipeline:
    """Enable or disable a pipeline. Raises BadRequest, NotFound."""
    async with catalog.change() as change:
        old = find_pipeline(catalog, workspace, id_)
        new = msgspec.structs.replace(old, enabled=enabled)
        if new != old:
            await change.update_pipeline(new)
    return new


async def delete_pipeline(catalog: Catalog, workspace: int, id_: int) -> None:
    """Raises BadRequest, NotFound."""
    async with catalog.change() as change:
        await change.remove_pipeline(find_pipeline(catalog, workspace, id_))


def _check_target(catalog: Catalog, connection: Connection, target: Target) -> None:
    connector = catalog.connectors.get(connection.connector)
    capabilities = None if connector is None else connector.capabilities(connection.role)
    if connector is None or capabilities is None or target not in capabilities.targets:
        raise BadRequest(
            f"pipelines with target {target} are not allowed for connection {connection.id}", field="target"
        )
    if not connector.receives_events(connection.role):
        raise Unimplemented(f"pipelines of {connector.type} connections are not built yet")


def _check_members(target: Target, name: str, others: frozenset[str]) -> None:
    """Refuse what this kind of pipeline never has first, and say last what it cannot have yet."""
    _refuse(target, others, _REFUSED_BEFORE_NAME)
    if target == "Event":
        _refuse(target, others, ("outSchema",))
    check_name(name)
    _refuse(target, others, _REFUSED_AFTER_NAME)
    if target == "Event":
        _refuse(target, others, ("transformation",))
    for member, message in _NOT_BUILT.items():
        if member in others:
            raise Unimplemented(message, field=member)


def _refuse(target: Target, others: frozenset[str], members: tuple[str, ...]) -> None:
    for member in members:
        if member in others:
            raise BadRequest(
                f"{member} is not allowed for pipelines with target {target} that read events", field=member
            )
