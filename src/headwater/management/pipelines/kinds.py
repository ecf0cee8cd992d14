"""The nine kinds of pipelines: the members of each, and the members that are shown.

The role and the connector type of the connection, and the target, determine the kind. All other differences between
kinds are the data in this module.
"""

from collections.abc import Mapping
from typing import Final, Literal, get_args

from msgspec import Struct

from headwater.base.errors import BadRequest
from headwater.catalog import Connection
from headwater.connectors.connector import Connector, ConnectorType, Role, Target
from headwater.schemas import EVENT_SCHEMA, ObjectType, Schema

Presence = Literal["required", "optional"]
"""A member that a kind does not name is not allowed."""
Capability = Literal["user_source", "user_sink", "query_source", "table_sink", "file_storage"]
"""A field of `Engine`."""


class Kind(Struct, frozen=True, kw_only=True):
    """One kind of pipeline.

    `does` completes the sentence "pipelines that …" in messages. `members` are the settable members besides name and
    enabled, by their documented names; some optional members are required in combination with others. `shown` are the
    members shown in addition to the common ones. A `batch` pipeline runs by request or on a schedule; the others
    process each event. `capability` is the part of the connector's engine that it needs; None if it needs none.
    """

    does: str
    members: dict[str, Presence]
    shown: tuple[str, ...]
    reads_profiles: bool = False
    """Whether its input is a profile of the workspace."""
    writes_profiles: bool = False
    """Whether its output is a user of the workspace."""
    batch: bool = True
    capability: Capability | None = None

    @property
    def reads_events(self) -> bool:
        """Return whether its input is an event, so that its input schema is the event schema."""
        return not self.batch


INCOMING_EVENT_SCHEMA: Final[Schema] = ObjectType(tuple(one for one in EVENT_SCHEMA if one.name != "kpid"))
"""The input schema of pipelines that read events. The profile of an event is known only after it is stored."""

_TARGETS: Final[tuple[Target, ...]] = get_args(Target)
_BATCH: Final = ("running", "scheduleStart", "schedulePeriod")
_COLUMNS: Final[dict[str, Presence]] = {
    "userIDColumn": "required",
    "updatedAtColumn": "optional",
    "updatedAtFormat": "optional",
}
_FILE: Final[dict[str, Presence]] = {
    "format": "required",
    "path": "required",
    "sheet": "optional",
    "compression": "optional",
    "formatSettings": "optional",
}
_TRANSFORMED: Final[dict[str, Presence]] = {
    "inSchema": "required",
    "outSchema": "required",
    "transformation": "required",
}

IMPORT_FROM_APPLICATION: Final = Kind(
    does="import users from applications",
    capability="user_source",
    writes_profiles=True,
    members={"filter": "optional", **_TRANSFORMED, "incremental": "optional"},
    shown=("filter", "incremental", "transformation", "inSchema", "outSchema", *_BATCH),
)
IMPORT_FROM_DATABASE: Final = Kind(
    does="import users from databases",
    capability="query_source",
    writes_profiles=True,
    members={"query": "required", **_TRANSFORMED, **_COLUMNS, "incremental": "optional"},
    shown=("query", *_COLUMNS, "incremental", "transformation", "inSchema", "outSchema", *_BATCH),
)
IMPORT_FROM_FILE: Final = Kind(
    does="import users from files",
    capability="file_storage",
    writes_profiles=True,
    members={"filter": "optional", **_FILE, **_TRANSFORMED, **_COLUMNS, "incremental": "optional"},
    shown=(
        *("format", "path", "sheet", "compression", "filter"),
        *_COLUMNS,
        *("incremental", "transformation", "inSchema", "outSchema"),
        *_BATCH,
    ),
)
IMPORT_FROM_EVENTS: Final = Kind(
    does="import users from events",
    writes_profiles=True,
    members={"filter": "optional", "outSchema": "optional", "transformation": "optional"},
    shown=("filter", "transformation", "inSchema", "outSchema"),
    batch=False,
)
COLLECT_EVENTS: Final = Kind(
    does="collect events",
    members={"filter": "optional"},
    shown=("filter",),
    batch=False,
)
EXPORT_TO_APPLICATION: Final = Kind(
    does="export profiles to applications",
    capability="user_sink",
    reads_profiles=True,
    members={
        "filter": "optional",
        **_TRANSFORMED,
        "exportMode": "required",
        "matching": "required",
        "updateOnDuplicates": "optional",
    },
    shown=(
        *("filter", "matching", "exportMode", "updateOnDuplicates", "transformation", "inSchema", "outSchema"),
        *_BATCH,
    ),
)
SEND_EVENTS: Final = Kind(
    does="send events to applications",
    members={"eventType": "required", "filter": "optional", "outSchema": "optional", "transformation": "optional"},
    shown=("eventType", "filter", "transformation", "inSchema", "outSchema"),
    batch=False,
)
EXPORT_TO_DATABASE: Final = Kind(
    does="export profiles to databases",
    capability="table_sink",
    reads_profiles=True,
    members={"filter": "optional", **_TRANSFORMED, "tableName": "required", "tableKey": "required"},
    shown=("filter", "tableName", "tableKey", "transformation", "inSchema", "outSchema", *_BATCH),
)
EXPORT_TO_FILE: Final = Kind(
    does="export profiles to files",
    capability="file_storage",
    reads_profiles=True,
    members={"filter": "optional", **_FILE, "inSchema": "required", "orderBy": "required"},
    shown=("format", "path", "sheet", "compression", "orderBy", "filter", "inSchema", *_BATCH),
)

_KINDS: Final[dict[tuple[Role, ConnectorType, Target], Kind]] = {
    ("Source", "Application", "User"): IMPORT_FROM_APPLICATION,
    ("Source", "Database", "User"): IMPORT_FROM_DATABASE,
    ("Source", "FileStorage", "User"): IMPORT_FROM_FILE,
    ("Source", "SDK", "User"): IMPORT_FROM_EVENTS,
    ("Source", "Webhook", "User"): IMPORT_FROM_EVENTS,
    ("Source", "SDK", "Event"): COLLECT_EVENTS,
    ("Source", "Webhook", "Event"): COLLECT_EVENTS,
    ("Destination", "Application", "User"): EXPORT_TO_APPLICATION,
    ("Destination", "Application", "Event"): SEND_EVENTS,
    ("Destination", "Database", "User"): EXPORT_TO_DATABASE,
    ("Destination", "FileStorage", "User"): EXPORT_TO_FILE,
}


def find_kind(role: Role, connector_type: ConnectorType, target: Target) -> Kind | None:
    """Return the kind of pipeline for such a connection and target; None if there is none."""
    return _KINDS.get((role, connector_type, target))


def find_allowed_kind(connectors: Mapping[str, Connector], connection: Connection, target: Target) -> Kind:
    """Return the kind of pipeline of a connection. Raises BadRequest if its connector does not allow the target."""
    connector = connectors[connection.connector]
    capabilities = connector.capabilities(connection.role)
    kind = find_kind(connection.role, connector.type, target)
    if kind is None or capabilities is None or target not in capabilities.targets:
        raise BadRequest(
            f"pipelines with target {target} are not allowed for {connection.role} {connector.type} connections",
            field="target",
        )
    return kind


def read_target(text: str) -> Target:
    """Return the target that a request names. Raises BadRequest."""
    if not text:
        raise BadRequest("target is required", field="target")
    if text not in _TARGETS:
        raise BadRequest(f"target must be {' or '.join(_TARGETS)}", field="target")
    return text
