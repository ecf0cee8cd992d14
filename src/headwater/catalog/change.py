"""One change of the catalog: the statements of one transaction, and the objects after it.

It records what to do and checks no rules. The catalog executes the statements together, in order, when the change ends.
The new objects are built here instead of being read back: four SELECT statements would halve the changes per second.
"""

from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Executable, and_, delete, exists, insert, update

from headwater.base.identifiers import Identifiers
from headwater.catalog import tables
from headwater.catalog.accounts import SealedTokens
from headwater.catalog.model import ApiKey, Connection, OAuthAccount, Pipeline, Workspace
from headwater.catalog.view import Delta, View

Statement = tuple[Executable, Any]
"""A statement with its parameters: those of one row, of several rows, or None."""


class Change:
    """Open from `Catalog.change()` until the end of its block, which commits it, or rolls it back after an exception.

    No other change is open meanwhile, and the lookups of the catalog return what the database held when it began. `now`
    is the time of the change, `version` the version that it makes, `delta` the objects changed so far, and `statements`
    how.
    """

    def __init__(self, view: View, version: int, identifiers: Identifiers, now: datetime) -> None:
        self.now = now
        self.identifiers = identifiers
        self.delta = Delta(version=version, workspaces={}, api_keys={}, connections={})
        self.statements: list[Statement] = []
        self._view = view
        self._drawn: set[int] = set()

    def new_id(self) -> int:
        """Return an identifier that no object has."""
        view = self._view
        taken = (view.workspaces, view.api_keys, view.connections, view.pipelines, view.oauth_accounts, self._drawn)
        while True:
            candidate = self.identifiers.identifier()
            if not any(candidate in ids for ids in taken):
                self._drawn.add(candidate)
                return candidate

    def add_workspace(self, workspace: Workspace) -> None:
        self._write(insert(tables.workspaces), msgspec.structs.asdict(workspace))
        self.delta.workspaces[workspace.id] = workspace

    def update_workspace(self, workspace: Workspace) -> None:
        """Write everything but its id and its time of creation."""
        rows = tables.workspaces
        values = {
            "name": workspace.name,
            "ui_preferences": workspace.ui_preferences,
            "resolution": workspace.resolution,
            "profile_schema": workspace.profile_schema,
            "retention": workspace.retention,
        }
        self._write(update(rows).where(rows.c.id == workspace.id).values(values))
        self.delta.workspaces[workspace.id] = workspace

    def remove_workspace(self, workspace: Workspace) -> None:
        """Remove the workspace with its connections, everything that belongs to them, and the API keys restricted to
        it."""
        rows = tables.workspaces
        self._write(delete(rows).where(rows.c.id == workspace.id))
        self.delta.workspaces[workspace.id] = None
        view = self._view
        keys = (key.id for key in view.api_keys.values() if key.workspace == workspace.id)
        self.delta.api_keys.update(dict.fromkeys(keys))
        connections = (connection.id for connection in view.connections_in(workspace.id))
        self.delta.connections.update(dict.fromkeys(connections))

    def add_api_key(self, api_key: ApiKey) -> None:
        self._write(insert(tables.api_keys), msgspec.structs.asdict(api_key))
        self.delta.api_keys[api_key.id] = api_key

    def remove_api_key(self, api_key: ApiKey) -> None:
        rows = tables.api_keys
        self._write(delete(rows).where(rows.c.id == api_key.id))
        self.delta.api_keys[api_key.id] = None

    def add_connection(self, connection: Connection) -> None:
        """Add the connection with its links and event write keys. The connections at the other end of the links change
        too."""
        row = {column.name: getattr(connection, column.name) for column in tables.connections.columns}
        self._write(insert(tables.connections), row)
        if connection.event_write_keys:
            keys = [self._key(connection, key) for key in connection.event_write_keys]
            self._write(insert(tables.event_write_keys), keys)
        if connection.linked_connections:
            links = [self._link(connection, other) for other in connection.linked_connections]
            self._write(insert(tables.connection_links), links)
        if connection.oauth_account is not None:
            account = {
                "workspace": connection.workspace,
                "connection": connection.id,
                "account": connection.oauth_account.id,
            }
            self._write(insert(tables.connection_accounts), account)
        self.delta.connections[connection.id] = connection
        for other in map(self._current, connection.linked_connections):
            self._stage(other, linked_connections=tuple(sorted((*other.linked_connections, connection.id))))

    def update_connection(self, connection: Connection) -> None:
        """Write its name, strategy, sending mode and settings."""
        values = {
            "name": connection.name,
            "strategy": connection.strategy,
            "sending_mode": connection.sending_mode,
            "sealed_settings": connection.sealed_settings,
        }
        rows = tables.connections
        self._write(update(rows).where(rows.c.id == connection.id).values(values))
        self._stage(self._current(connection.id), **values)

    def remove_connection(self, connection: Connection) -> None:
        """Remove the connection with its pipelines, event write keys and links, and its OAuth account if no other
        connection uses it."""
        rows = tables.connections
        self._write(delete(rows).where(rows.c.id == connection.id))
        if connection.oauth_account is not None:
            accounts, id_ = tables.oauth_accounts, connection.oauth_account.id
            is_used = exists().where(tables.connection_accounts.c.account == id_)
            self._write(delete(accounts).where(accounts.c.id == id_, ~is_used))
        for other in map(self._current, self._current(connection.id).linked_connections):
            self._stage(other, linked_connections=_without(other.linked_connections, connection.id))
        self.delta.connections[connection.id] = None

    def add_oauth_account(self, workspace: int, connector: str, account: OAuthAccount, tokens: SealedTokens) -> None:
        """Add an account, before the first connection that uses it."""
        row = {
            "id": account.id,
            "workspace": workspace,
            "connector": connector,
            "code": account.code,
            "sealed_tokens": tokens.sealed,
            "expires_at": tokens.expires_at,
            "generation": 1,
            "authorized_at": tokens.authorized_at,
            "refreshed_at": tokens.authorized_at,
            "forced": False,
        }
        self._write(insert(tables.oauth_accounts), row)

    def authorize_again(self, account: OAuthAccount, tokens: SealedTokens) -> OAuthAccount:
        """Replace the tokens of an account, unless those that it has come from the same or a later authorization.

        All connections with the account change. Return the account as it is then.
        """
        if tokens.authorized_at <= account.authorized_at:
            return account
        rows = tables.oauth_accounts
        values = {
            "sealed_tokens": tokens.sealed,
            "expires_at": tokens.expires_at,
            "generation": rows.c.generation + 1,
            "authorized_at": tokens.authorized_at,
            "refreshed_at": tokens.authorized_at,
            "forced": False,
            "refreshing_until": None,
            "refreshing_by": None,
            "failed_at": None,
            "failure": None,
        }
        self._write(update(rows).where(rows.c.id == account.id).values(values))
        new = msgspec.structs.replace(account, authorized_at=tokens.authorized_at)
        for connection in self._view.oauth_accounts.get(account.id, ()):
            self._stage(self._current(connection), oauth_account=new)
        return new

    def add_link(self, source: Connection, destination: Connection) -> None:
        """Link two connections that are not linked."""
        self._write(insert(tables.connection_links), self._link(source, destination.id))
        for one, other in ((source, destination), (destination, source)):
            linked = self._current(one.id).linked_connections
            self._stage(self._current(one.id), linked_connections=tuple(sorted((*linked, other.id))))

    def remove_link(self, source: Connection, destination: Connection) -> None:
        rows = tables.connection_links
        link = and_(rows.c.source == source.id, rows.c.destination == destination.id)
        self._write(delete(rows).where(link))
        for one, other in ((source, destination), (destination, source)):
            current = self._current(one.id)
            self._stage(current, linked_connections=_without(current.linked_connections, other.id))

    def add_event_write_key(self, connection: Connection, key: str) -> None:
        self._write(insert(tables.event_write_keys), self._key(connection, key))
        current = self._current(connection.id)
        self._stage(current, event_write_keys=(*current.event_write_keys, key))

    def remove_event_write_key(self, connection: Connection, key: str) -> None:
        rows = tables.event_write_keys
        self._write(delete(rows).where(and_(rows.c.connection == connection.id, rows.c.key == key)))
        current = self._current(connection.id)
        self._stage(current, event_write_keys=_without(current.event_write_keys, key))

    def add_pipeline(self, pipeline: Pipeline) -> None:
        self._write(insert(tables.pipelines), msgspec.structs.asdict(pipeline))
        self._replace_pipeline(pipeline, pipeline)

    def update_pipeline(self, pipeline: Pipeline) -> None:
        """Write its name, enabled flag, schedule period and definition."""
        rows = tables.pipelines
        values = {
            "name": pipeline.name,
            "enabled": pipeline.enabled,
            "schedule_period": pipeline.schedule_period,
            "definition": pipeline.definition,
        }
        self._write(update(rows).where(rows.c.id == pipeline.id).values(values))
        self._replace_pipeline(pipeline, pipeline)

    def remove_pipeline(self, pipeline: Pipeline) -> None:
        rows = tables.pipelines
        self._write(delete(rows).where(rows.c.id == pipeline.id))
        self._replace_pipeline(pipeline, None)

    def _write(self, statement: Executable, parameters: Any = None) -> None:
        self.statements.append((statement, parameters))

    def _current(self, id_: int) -> Connection:
        """Return the connection with the changes made so far."""
        connection = self.delta.connections.get(id_, self._view.connections.get(id_))
        if connection is None:
            raise LookupError(f"connection {id_} is not in the catalog")
        return connection

    def _stage(self, connection: Connection, **values: Any) -> None:
        self.delta.connections[connection.id] = msgspec.structs.replace(connection, **values)

    def _replace_pipeline(self, old: Pipeline, new: Pipeline | None) -> None:
        owner = self._current(old.connection)
        pipelines = [pipeline for pipeline in owner.pipelines if pipeline.id != old.id]
        if new is not None:
            pipelines.append(new)
        self._stage(owner, pipelines=tuple(sorted(pipelines, key=lambda pipeline: pipeline.id)))

    def _key(self, connection: Connection, key: str) -> dict[str, Any]:
        return {"workspace": connection.workspace, "connection": connection.id, "key": key, "created_at": self.now}

    @staticmethod
    def _link(connection: Connection, other: int) -> dict[str, int]:
        source, destination = (connection.id, other) if connection.role == "Source" else (other, connection.id)
        return {"workspace": connection.workspace, "source": source, "destination": destination}


def _without(values: tuple[Any, ...], value: object) -> tuple[Any, ...]:
    return tuple(each for each in values if each != value)
