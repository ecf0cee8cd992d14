"""Creates objects of the catalog from the members that a test sets."""

from typing import Any

from headwater.catalog import ApiKey, Catalog, Change, Connection, Pipeline, Workspace, api_key_digest


def connection(change: Change, workspace: Workspace, name: str = "Website", **values: Any) -> Connection:
    return Connection(
        **{
            "id": change.new_id(),
            "workspace": workspace.id,
            "name": name,
            "connector": "javascript",
            "role": "Source",
            "strategy": "Fusion",
            "sending_mode": None,
            "created_at": change.now,
            "event_write_keys": (change.identifiers.event_write_key(),),
            **values,
        }
    )


def destination(change: Change, workspace: Workspace, **values: Any) -> Connection:
    values = {"role": "Destination", "connector": "crm", "strategy": None, "event_write_keys": (), **values}
    return connection(change, workspace, "CRM", **values)


def pipeline(change: Change, owner: Connection, **values: Any) -> Pipeline:
    return Pipeline(
        **{
            "id": change.new_id(),
            "workspace": owner.workspace,
            "connection": owner.id,
            "name": "Users",
            "target": "User",
            "enabled": True,
            "created_at": change.now,
            **values,
        }
    )


def api_key(change: Change, token: str, **values: Any) -> ApiKey:
    return ApiKey(
        **{
            "id": change.new_id(),
            "workspace": None,
            "name": "CI",
            "digest": api_key_digest(token),
            "hint": token[-4:],
            "created_at": change.now,
            **values,
        }
    )


async def added(catalog: Catalog, workspace: Workspace, name: str = "Website", **values: Any) -> Connection:
    """A connection that is in the catalog."""
    async with catalog.change() as change:
        made = connection(change, workspace, name, **values)
        change.add_connection(made)
    return made


def everything(catalog: Catalog) -> list[object]:
    """Return the results of all lookups in a catalog, to compare two catalogs."""
    workspaces = catalog.workspaces()
    connections = [connection for workspace in workspaces for connection in catalog.connections(workspace.id)]
    return [
        workspaces,
        connections,
        [catalog.find_source(key) for connection in connections for key in connection.event_write_keys],
        [catalog.pipeline(each.workspace, pipeline.id) for each in connections for pipeline in each.pipelines],
    ]
