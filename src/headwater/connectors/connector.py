"""The description of a connector: its type, the roles it can play, and the capabilities of each role.

A connector is a kind of system that data comes from or goes to ("javascript", "http"). A connection is a connector set
up in a workspace. `Connector.engine` makes the code that talks to the outside system.
"""

from importlib.util import find_spec
from typing import Final, Literal

import msgspec

from headwater.connectors.contract import NO_ENGINE, ApiVersion, Engine
from headwater.connectors.settings import Settings

ConnectorType = Literal["Application", "Database", "File", "FileStorage", "MessageBroker", "SDK", "Webhook"]
Role = Literal["Source", "Destination"]
Target = Literal["User", "Event"]
Strategy = Literal["Conversion", "Fusion", "Isolation", "Preservation"]
SendingMode = Literal["Client", "Server", "ClientAndServer"]

EVENT_SOURCE_TYPES: Final[frozenset[ConnectorType]] = frozenset({"SDK", "Webhook"})
"""The types that events are received from. They are sources only, and their connections have event write keys."""


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """The capabilities of a connector in one role.

    `targets` are the entities that its pipelines can operate on. `sending_modes` are the ways it can send events: one
    of them must be chosen when there are any. `settings` is None if it has none in this role. `summary` is a sentence
    for users; `sample_query` is a query to start from, for databases.
    """

    targets: tuple[Target, ...]
    sending_modes: tuple[SendingMode, ...] = ()
    settings: type[Settings] | None = None
    summary: str = ""
    sample_query: str = ""


class Terms(msgspec.Struct, frozen=True):
    """The terms of an application for one user, several users, and the user's identifier; empty if it has none."""

    user: str = ""
    users: str = ""
    user_id: str = ""


class Driver(msgspec.Struct, frozen=True):
    """A library that a connector needs and an installation can leave out.

    `module` is the module that it brings, and `extra` the extra of this package that installs it.
    """

    module: str
    extra: str

    @property
    def is_installed(self) -> bool:
        """Return whether the module can be imported. It is not imported for this."""
        try:
            return find_spec(self.module) is not None
        except (ImportError, ValueError):
            return False

    @property
    def install_command(self) -> str:
        return f"pip install 'headwater[{self.extra}]'"


class OAuthSupport(msgspec.Struct, frozen=True, kw_only=True):
    """The redirect URIs that the provider of an application refuses: those with the host 127.0.0.1, or localhost.

    If it `is_optional`, a connection has either an OAuth account or settings: the factories of the engine get no
    settings for one with an account.
    """

    is_optional: bool = False
    disallow_loopback_ip: bool = False
    disallow_localhost: bool = False


class Connector(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of the catalogue.

    `code` names it in requests and never changes; `label` is shown to users, and `categories` are where a catalogue
    shows it. A role that is None is not supported. `available` is true if it has an engine, so that connections can be
    created. If `strategies` is true, its source connections must choose a strategy for anonymous users. If
    `falls_back_to_request_ip` is true, an event without an IP address gets that of the request: right for an SDK on the
    user's own device, wrong for one on a server. If `public_key` is true, its event write keys have the form `pk_` and
    a UUID. `terms` are for applications, `has_sheets` and `file_extension` for file formats. `engine` has the
    implemented capabilities. `driver` is the library that it needs in addition; None without one. `oauth` is None if
    users need not authorize access. If `is_sample` is true, it is listed only by installations that have its OAuth
    client. `version` is the version of the vendor's API; None if it has none.
    """

    code: str
    label: str
    type: ConnectorType
    categories: tuple[str, ...] = ()
    source: Capabilities | None = None
    destination: Capabilities | None = None
    available: bool = False
    strategies: bool = False
    falls_back_to_request_ip: bool = False
    public_key: bool = False
    terms: Terms | None = None
    has_sheets: bool = False
    file_extension: str = ""
    engine: Engine = NO_ENGINE
    oauth: OAuthSupport | None = None
    is_sample: bool = False
    driver: Driver | None = None
    version: ApiVersion | None = None

    @property
    def is_installed(self) -> bool:
        """Return whether everything that its engine imports is installed."""
        return self.driver is None or self.driver.is_installed

    def capabilities(self, role: Role) -> Capabilities | None:
        """Return the capabilities in `role`, or None if the role is not supported."""
        return self.source if role == "Source" else self.destination

    def supports_events(self, role: Role) -> bool:
        """Return whether events come from it, or can be sent to it, in this role."""
        capabilities = self.capabilities(role)
        return capabilities is not None and "Event" in capabilities.targets

    def receives_events(self, role: Role) -> bool:
        """Return whether its connections in this role receive calls with an event write key."""
        return role == "Source" and self.type in EVENT_SOURCE_TYPES
