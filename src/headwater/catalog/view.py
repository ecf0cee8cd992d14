"""The view of the catalog in one process: every object in memory, found by dictionary lookups.

Deltas update a view; each replaces whole objects. Applying one does not await, so no other task on the event loop sees
a partial update. Deltas may repeat or overlap; they never move a view backwards.
"""

from collections.abc import Iterable
from typing import Literal, TypeVar

import msgspec

from headwater.catalog.model import ApiKey, Connection, Pipeline, Workspace

Kind = Literal["workspace", "api_key", "connection"]
"""Objects that change as a whole. Event write keys, links and pipelines are parts of their connections."""

_Object = TypeVar("_Object")


class Delta(msgspec.Struct, frozen=True, kw_only=True):
    """Objects as of `version`; None stands for a removed object.

    It contains everything that changed after some version that the receiving view has reached. A `complete` delta
    contains all objects.
    """

    version: int
    complete: bool = False
    workspaces: dict[int, Workspace | None]
    api_keys: dict[int, ApiKey | None]
    connections: dict[int, Connection | None]

    def changed(self) -> list[tuple[Kind, int]]:
        """Return the kinds and ids of its objects."""
        kinds: tuple[tuple[Kind, Iterable[int]], ...] = (
            ("workspace", self.workspaces),
            ("api_key", self.api_keys),
            ("connection", self.connections),
        )
        return [(kind, id_) for kind, ids in kinds for id_ in ids]


class View:
    """All objects by id, and the indexes of frequent lookups. `version` -1 marks a view that was never loaded."""

    def __init__(self) -> None:
        self.version = -1
        self.workspaces: dict[int, Workspace] = {}
        self.api_keys: dict[int, ApiKey] = {}
        self.connections: dict[int, Connection] = {}
        self.pipelines: dict[int, Pipeline] = {}
        self.api_key_by_digest: dict[str, ApiKey] = {}
        self.source_by_write_key: dict[str, Connection] = {}
        self.oauth_accounts: dict[int, set[int]] = {}
        """The connections of each OAuth account."""
        self._sorted_by_workspace: dict[int, list[Connection]] = {}

    def advanced(self, delta: Delta) -> "View":
        """Return the view at the delta's version: this view, changed, or a new view if the delta is complete.

        A delta that this view has reached changes nothing.
        """
        if delta.version <= self.version:
            return self
        view = View() if delta.complete else self
        for id_, workspace in delta.workspaces.items():
            _put(view.workspaces, id_, workspace)
        for id_, api_key in delta.api_keys.items():
            view._put_api_key(id_, api_key)
        for id_, connection in delta.connections.items():
            view._put_connection(id_, connection)
        view.version = delta.version
        return view

    def connections_in(self, workspace: int) -> list[Connection]:
        """Return the connections of the workspace by name, then id. The list belongs to the view: do not change it."""
        found = self._sorted_by_workspace.get(workspace)
        if found is None:
            found = [connection for connection in self.connections.values() if connection.workspace == workspace]
            # Python compares code points, which is the order of the names' UTF-8 bytes.
            found.sort(key=lambda connection: (connection.name, connection.id))
            self._sorted_by_workspace[workspace] = found
        return found

    def _put_api_key(self, id_: int, new: ApiKey | None) -> None:
        old = self.api_keys.get(id_)
        if old is not None:
            del self.api_key_by_digest[old.digest]
        if new is not None:
            self.api_key_by_digest[new.digest] = new
        _put(self.api_keys, id_, new)

    def _put_connection(self, id_: int, new: Connection | None) -> None:
        old = self.connections.get(id_)
        if old is not None:
            self._sorted_by_workspace.pop(old.workspace, None)
            for key in old.event_write_keys:
                del self.source_by_write_key[key]
            for pipeline in old.pipelines:
                del self.pipelines[pipeline.id]
            if old.oauth_account is not None:
                self.oauth_accounts[old.oauth_account.id].discard(id_)
                if not self.oauth_accounts[old.oauth_account.id]:
                    del self.oauth_accounts[old.oauth_account.id]
        if new is not None:
            self._sorted_by_workspace.pop(new.workspace, None)
            self.source_by_write_key.update(dict.fromkeys(new.event_write_keys, new))
            self.pipelines.update((pipeline.id, pipeline) for pipeline in new.pipelines)
            if new.oauth_account is not None:
                self.oauth_accounts.setdefault(new.oauth_account.id, set()).add(id_)
        _put(self.connections, id_, new)


def _put(objects: dict[int, _Object], id_: int, value: _Object | None) -> None:
    if value is None:
        objects.pop(id_, None)
    else:
        objects[id_] = value
