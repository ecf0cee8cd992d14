"""The objects of the configuration, as everybody else sees them. They are values: a change makes new ones."""

from datetime import datetime
from hashlib import sha256
from typing import Literal

import msgspec

from headwater.catalog.definition import Definition
from headwater.connectors.connector import Role, SendingMode, Strategy, Target


class UiPreferences(msgspec.Struct, frozen=True, kw_only=True):
    """The paths of the profile properties that user interfaces show a person by; empty where there is none."""

    image: str = ""
    first_name: str = ""
    last_name: str = ""
    extra: str = ""


SchedulePeriod = Literal["5m", "15m", "30m", "1h", "2h", "3h", "6h", "8h", "12h", "24h"]


class Workspace(msgspec.Struct, frozen=True, kw_only=True):
    """The scope of everything else: no object of one workspace is visible in another."""

    id: int
    name: str
    created_at: datetime
    ui_preferences: UiPreferences = UiPreferences()


Access = Literal["Full", "Read"]
"""What a key may do: everything, or make GET calls only."""


class ApiKey(msgspec.Struct, frozen=True, kw_only=True):
    """A secret that opens the management API, without the secret.

    `workspace` is the only workspace that it opens; None is all of them. `digest` is the SHA-256 of the key in hex,
    which needs no salt because keys are random. `hint` is what people recognise it by.
    """

    id: int
    workspace: int | None
    name: str
    digest: str
    hint: str
    created_at: datetime
    access: Access = "Full"


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """What a connection does with the users or the events that come through it."""

    id: int
    workspace: int
    connection: int
    name: str
    target: Target
    enabled: bool
    created_at: datetime
    event_type: str = ""
    """What kind of event it sends to an application; empty for pipelines that do not."""
    schedule_start: int | None = None
    """The minute of the day that its schedule counts from, 0 to 1439; None for pipelines that are never scheduled."""
    schedule_period: SchedulePeriod | None = None
    """How often it runs by itself; None for never."""
    definition: Definition = Definition()


class Connection(msgspec.Struct, frozen=True, kw_only=True):
    """A source that data comes from, or a destination that it goes to.

    `linked_connections` are ids, ascending: the destinations that a source's events are forwarded to, or the sources
    that a destination's events come from. `pipelines` are ascending by id. `event_write_keys` are in the order of their
    creation, and empty for a connection that receives no events. `sealed_settings` are its settings, encrypted: the
    catalog opens them with `settings_of`; None when it has none.
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


def digest_of(api_key: str) -> str:
    """What the catalog keeps of an API key."""
    return sha256(api_key.encode()).hexdigest()
