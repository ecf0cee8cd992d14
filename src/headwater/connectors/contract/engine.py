"""The engine of a connector: one factory for each capability that it has."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import msgspec

from headwater.connectors.contract.context import ConnectorContext
from headwater.connectors.contract.events import EventSink
from headwater.connectors.contract.files import FileFormat, FileStorage
from headwater.connectors.contract.oauth import OAuthProvider
from headwater.connectors.contract.tables import QuerySource, TableSink
from headwater.connectors.contract.users import UserSink, UserSource

_Capability = TypeVar("_Capability")

Check: TypeAlias = Callable[[Any, ConnectorContext], Any]
"""Checks settings with the outside system before they are stored, and returns those to store, which can have more.

It is synchronous and runs in a thread. Raises Unprocessable with InvalidSettings if the system rejects them, and
Unavailable.
"""

HttpCheck: TypeAlias = Callable[[Any, ConnectorContext], Awaitable[Any]]
"""A `Check` that sends requests with the client of its context, on the event loop. It has the same errors."""

Factory: TypeAlias = Callable[[Any, ConnectorContext], _Capability]
"""Makes a capability for one connection from the connector's settings for that role. It does no I/O."""


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """The capabilities of a connector; None where it has none. `check` and `http_check` are None if settings are not
    checked with the outside system; a connector has at most one of them. `writes_users_over_http` is False if users are
    written without the HTTP client of the context, so that there is no request to show.

    An instance serves one connection and keeps nothing between calls but caches. A factory whose module needs a large
    library imports that module when it is called, because every process imports the registry.
    """

    user_source: Factory[UserSource] | None = None
    user_sink: Factory[UserSink] | None = None
    event_sink: Factory[EventSink] | None = None
    query_source: Factory[QuerySource] | None = None
    table_sink: Factory[TableSink] | None = None
    file_storage: Factory[FileStorage] | None = None
    file_format: Factory[FileFormat] | None = None
    oauth: Factory[OAuthProvider] | None = None
    check: Check | None = None
    http_check: HttpCheck | None = None
    writes_users_over_http: bool = True

    @property
    def checks_settings(self) -> bool:
        """Return whether settings are checked with the outside system before they are stored."""
        return self.check is not None or self.http_check is not None

    @property
    def is_write_only(self) -> bool:
        """Return whether users are written, and cannot be read."""
        return self.user_sink is not None and self.user_source is None


NO_ENGINE = Engine()
