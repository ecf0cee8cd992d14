"""The catalog of one process: lookups in memory, refreshes from the database, and changes.

Every change first takes the next version, one row that all writers of all processes must lock. So changes run one after
another, on SQLite and PostgreSQL alike, and what a writer has read stays true until it commits. The version also tells
a process cheaply whether its view is old, and `catalog_changes` which objects to read again.

The catalog does not refresh itself. Callers that need the newest state call `refresh`, or `get_or_refresh` for one
object.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, TypeVar, TypeVarTuple

import sqlalchemy
from sqlalchemy import delete, insert, update

from headwater.base.clock import Clock
from headwater.base.encryption import Keyring
from headwater.base.identifiers import Identifiers
from headwater.catalog import tables
from headwater.catalog.access_tokens import AccessTokens
from headwater.catalog.accounts import OAuthAccounts
from headwater.catalog.change import Change
from headwater.catalog.model import ApiKey, Connection, OAuthAccount, Pipeline, Workspace, api_key_digest
from headwater.catalog.negativecache import NegativeCache
from headwater.catalog.reading import KEPT_CHANGES, read_since, read_version
from headwater.catalog.sealing import check_readable, open_settings, reseal_settings, seal_settings
from headwater.catalog.view import Delta, View
from headwater.connectors.connector import Connector
from headwater.connectors.contract import AccessToken
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.settings import Settings
from headwater.storage.changes import Changes
from headwater.storage.database import Location, as_unavailable, open_database
from headwater.storage.sessions import Sessions, sessions, snapshot

TURN_TIMEOUT_SECONDS: Final = 10.0
"""Maximum time that a change waits for other changes of this process, and a refresh for another refresh."""

_Key = TypeVarTuple("_Key")
_Found = TypeVar("_Found")

_NEXT_VERSION = (
    update(tables.catalog_version)
    .values(version=tables.catalog_version.c.version + 1)
    .returning(tables.catalog_version.c.version)
)
_PRUNE_EVERY = 100


class Catalog:
    """Serves lookups synchronously from the view. Created by `open_catalog`.

    `connectors` are the known connectors by code. `keyring` opens the settings of connections and the tokens of
    `oauth_accounts`; a process without a keyring can do everything else. `is_shared` states that other processes change
    the catalog too, so that callers refresh it before they show it to people.
    """

    def __init__(
        self,
        sessions: Sessions,
        changes: Changes,
        clock: Clock,
        identifiers: Identifiers,
        connectors: Mapping[str, Connector],
        keyring: Keyring | None = None,
        is_shared: bool = False,
    ) -> None:
        self.connectors = connectors
        self.keyring = keyring
        self.is_shared = is_shared
        self.oauth_accounts = OAuthAccounts(sessions, keyring, clock)
        self._access_tokens = AccessTokens(self.oauth_accounts, connectors, clock, identifiers)
        self._sessions = sessions
        self._changes = changes
        self._clock = clock
        self._identifiers = identifiers
        self._view = View()
        self._negative_cache = NegativeCache(clock)
        self._changing = asyncio.Lock()
        self._refreshing = asyncio.Lock()
        self._begun = 0
        """Number of refreshes that have read the database."""
        self._reached = 0
        """Number of the last refresh that completed."""

    @property
    def version(self) -> int:
        """The number of the last change that this process has taken in."""
        return self._view.version

    def workspaces(self) -> list[Workspace]:
        """Return all workspaces, oldest first."""
        return sorted(self._view.workspaces.values(), key=lambda workspace: (workspace.created_at, workspace.id))

    def workspace(self, id_: int) -> Workspace | None:
        return self._view.workspaces.get(id_)

    def api_key(self, token: str) -> ApiKey | None:
        """Return the API key with this token. The lookup is by digest, so its duration reveals nothing about other
        keys."""
        return self._view.api_key_by_digest.get(api_key_digest(token))

    def api_keys(self) -> list[ApiKey]:
        """Return all API keys, oldest first."""
        return sorted(self._view.api_keys.values(), key=lambda key: (key.created_at, key.id))

    def find_source(self, write_key: str) -> Connection | None:
        """Return the connection that the event write key belongs to."""
        return self._view.source_by_write_key.get(write_key)

    def connections(self, workspace: int) -> list[Connection]:
        """Return the connections of the workspace by the bytes of their names, then by id."""
        return list(self._view.connections_in(workspace))

    def connection(self, workspace: int, id_: int) -> Connection | None:
        found = self._view.connections.get(id_)
        return found if found is not None and found.workspace == workspace else None

    def sealed(self, connection: Connection, settings: Settings) -> Connection:
        """Return the connection with these settings, encrypted so that they can be opened for it alone."""
        return seal_settings(self.keyring, connection, settings)

    def resealed(self, connection: Connection) -> Connection:
        """Return the connection with its settings encrypted with the present key. Raises Unavailable."""
        return reseal_settings(self.keyring, connection)

    def check_readable(self, connection: Connection) -> None:
        """Raise Unavailable unless a key opens the settings of the connection."""
        check_readable(self.keyring, connection)

    def decrypt_settings(self, connection: Connection) -> Settings | None:
        """Return the settings of a connection, as its connector declares them.

        A connection without settings has the defaults of its connector; None if its connector has no settings in that
        role. Raises Unavailable if no key opens the settings or they do not fit the connector.
        """
        connector = self.connectors.get(connection.connector)
        capabilities = None if connector is None else connector.capabilities(connection.role)
        declared = None if capabilities is None else capabilities.settings
        if declared is None:
            return None
        if connection.sealed_settings is None:
            return None if declared.REQUIRED else declared.read({})
        return open_settings(self.keyring, connection, declared)

    def oauth_account(self, workspace: int, connector: str, code: str) -> OAuthAccount | None:
        """Return the account with this code that connections of the workspace use."""
        for connection in self._view.connections_in(workspace):
            account = connection.oauth_account
            if account is not None and account.code == code and connection.connector == connector:
                return account
        return None

    def access_token(self, connection: Connection, environment: ConnectorEnvironment) -> AccessToken | None:
        """Return the access token of a connection, to open its context in `environment` with; None without an
        account. Connections with one account share it."""
        if connection.oauth_account is None:
            return None
        return self._access_tokens.find(connection.oauth_account.id, environment)

    async def close(self) -> None:
        """Stop the refreshes of access tokens that are under way."""
        await self._access_tokens.close()

    def pipeline(self, workspace: int | None, id_: int) -> Pipeline | None:
        """Return a pipeline of a workspace; with None, of any."""
        found = self._view.pipelines.get(id_)
        return found if found is not None and workspace in (None, found.workspace) else None

    async def refresh(self) -> None:
        """Update the view to everything that any process committed before this call.

        Takes one small query if nothing changed; otherwise only the changed objects are read. Callers that wait at the
        same time share one refresh. Raises Unavailable.
        """
        before = self._begun
        async with _as_unavailable(), _acquire(self._refreshing):
            if self._reached > before:  # it began after this call
                return
            self._begun = begun = self._begun + 1
            await self._changes.once("view", self._read_changes)
            self._reached = begun

    async def _read_changes(self) -> None:
        async with self._sessions.open() as session:
            if await session.run(_version) > self._view.version:
                changes = await session.run(_changes_since(self._view.version))
                # Checked after the read: a change meanwhile may have replaced the view.
                self._view = self._view.advanced(changes)

    async def get_or_refresh(self, lookup: Callable[[*_Key], _Found | None], *key: *_Key) -> _Found | None:
        """Return the result of a lookup for the key, even if another process created the object a moment ago.

        The database is not queried for a key that it lacked a moment ago, nor during a flood of unknown keys. Then the
        result is that of the view, which the next `refresh` updates. Raises Unavailable.
        """
        found = lookup(*key)
        if found is None and self._negative_cache.should_query(key):
            await self.refresh()
            found = lookup(*key)
            if found is None:
                self._negative_cache.add(key)
        return found

    @asynccontextmanager
    async def change(self) -> AsyncIterator[Change]:
        """Open a change: one transaction, which overlaps with no other change of any process.

        The view is updated first, so rules that the block checks by lookups still hold when it commits. The view has
        the change when the block ends without an exception; with one, nothing changes. A block without changes makes no
        new version. Raises Unavailable.
        """
        async with _as_unavailable(), _acquire(self._changing), self._sessions.open() as session:
            version, changes = await session.run(_begin(self._view.version))
            if changes is not None:
                self._view = self._view.advanced(changes)
            change = Change(self._view, version, self._identifiers, self._clock.now())
            yield change
            if change.delta.changed():
                await session.run(_commit(change))
                self._view = self._view.advanced(change.delta)


def _version(connection: sqlalchemy.Connection) -> int:
    with connection.begin():
        return read_version(connection)


def _changes_since(seen: int) -> Callable[[sqlalchemy.Connection], Delta]:
    def read(connection: sqlalchemy.Connection) -> Delta:
        with snapshot(connection):
            return read_since(connection, seen, read_version(connection))

    return read


def _begin(seen: int) -> Callable[[sqlalchemy.Connection], tuple[int, Delta | None]]:
    """Take the next version, and read the changes between it and the version `seen`, if there are any."""

    def begin(connection: sqlalchemy.Connection) -> tuple[int, Delta | None]:
        version = int(connection.execute(_NEXT_VERSION).scalar_one())
        return version, read_since(connection, seen, version - 1) if version - 1 > seen else None

    return begin


def _commit(change: Change) -> Callable[[sqlalchemy.Connection], None]:
    """Write the change, record for the other processes what to read again, and commit."""

    def write(connection: sqlalchemy.Connection) -> None:
        for statement, parameters in change.statements:
            connection.execute(statement, parameters)
        changes, version = tables.catalog_changes, change.delta.version
        rows = [{"version": version, "kind": kind, "id": id_} for kind, id_ in change.delta.changed()]
        connection.execute(insert(changes), rows)
        if version % _PRUNE_EVERY == 0:
            connection.execute(delete(changes).where(changes.c.version <= version - KEPT_CHANGES))
        connection.commit()

    return write


@asynccontextmanager
async def open_catalog(
    location: Location,
    *,
    clock: Clock,
    identifiers: Identifiers,
    connectors: Mapping[str, Connector] = CONNECTORS,
    keyring: Keyring | None = None,
    is_shared: bool = False,
) -> AsyncIterator[Catalog]:
    """Open the catalog in the database at `location`, migrate its tables, and close it at the end of the block."""
    async with open_database(location, "headwater.catalog.migrations") as engine, sessions(engine) as open_sessions:
        catalog = Catalog(open_sessions, Changes(engine), clock, identifiers, connectors, keyring, is_shared)
        await catalog.refresh()
        try:
            yield catalog
        finally:
            await catalog.close()


@asynccontextmanager
async def _acquire(lock: asyncio.Lock) -> AsyncIterator[None]:
    async with asyncio.timeout(TURN_TIMEOUT_SECONDS):
        await lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _as_unavailable() -> AbstractAsyncContextManager[None]:
    return as_unavailable("the catalog's database")
