"""The objects of the configuration. They are immutable values: a change makes new ones."""

from datetime import datetime
from hashlib import sha256
from typing import Literal

import msgspec

from headwater.catalog.definition import Definition
from headwater.catalog.profiles import ProfileSchema, ResolutionSettings
from headwater.catalog.retention import RetentionSettings
from headwater.connectors.connector import Role, SendingMode, Strategy, Target


class UiPreferences(msgspec.Struct, frozen=True, kw_only=True):
    """Paths of the profile properties by which user interfaces show a person; empty if not set."""

    image: str = ""
    first_name: str = ""
    last_name: str = ""
    extra: str = ""


SchedulePeriod = Literal["5m", "15m", "30m", "1h", "2h", "3h", "6h", "8h", "12h", "24h"]


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """The scope of all other objects. No object of one workspace is visible in another."""

    id: int
    name: str
    created_at: datetime
    ui_preferences: UiPreferences = UiPreferences()
    resolution: ResolutionSettings = ResolutionSettings()
    profile_schema: ProfileSchema | None = None
    """None while profiles have no properties."""
    retention: RetentionSettings = RetentionSettings()


Access = Literal["Full", "Read"]
"""Permissions of a key: everything, or GET calls only."""


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """An API key of the management API, without the secret.

    `workspace` is the only workspace that it gives access to; None means all. `digest` is the SHA-256 of the key in
    hex, which needs no salt because keys are random. `hint` is the part by which people recognise the key.
    """

    id: int
    workspace: int | None
    name: str
    digest: str
    hint: str
    created_at: datetime
    access: Access = "Full"


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """Processes the users or the events of a connection."""

    id: int
    workspace: int
    connection: int
    name: str
    target: Target
    enabled: bool
    created_at: datetime
    event_type: str = ""
    """The event type that it sends to an application; empty for pipelines that send none."""
    schedule_start: int | None = None
    """The minute of the day from which its schedule counts, 0 to 1439; None for pipelines without a schedule."""
    schedule_period: SchedulePeriod | None = None
    """The interval of scheduled runs; None for no schedule."""
    definition: Definition = Definition()


class OAuthAccount(msgspec.Struct, frozen=True, kw_only=True):
    """An account of an application to which users have granted access. Connections with one connector share it.

    `code` is the application's identifier of it. `authorized_at` is the time at which a user granted the access that is
    used. Its tokens are not in the view: `Catalog.oauth_accounts` has them.
    """

    id: int
    code: str
    authorized_at: datetime


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A source of data, or a destination for it.

    `linked_connections` are ids in ascending order: the destinations to which a source forwards events, or the sources
    of a destination's events. `pipelines` are in ascending order of their ids. `event_write_keys` are in the order of
    creation; empty for a connection that receives no events. `sealed_settings` are the encrypted settings, which
    `Catalog.settings` opens; None without settings. `oauth_account` is None for connectors that need no authorization.
    """

    id: int
    workspace: int
    name: str
    connector: str
    role: Role
    strategy: Strategy | None
    sending_mode: SendingMode | None
    created_at: datetime
    sealed_settings: bytes | None = None
    linked_connections: tuple[int, ...] = ()
    pipelines: tuple[Pipeline, ...] = ()
    event_write_keys: tuple[str, ...] = ()
    oauth_account: OAuthAccount | None = None


def api_key_digest(api_key: str) -> str:
    """Return the digest of an API key, which the catalog stores instead of the key."""
    return sha256(api_key.encode()).hexdigest()
