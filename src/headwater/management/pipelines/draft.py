"""A pipeline that is being made or changed: what was asked for, and what it is asked of."""

from typing import Final

import msgspec

from headwater.catalog import Connection, Definition
from headwater.connectors.connector import Connector, Target
from headwater.filters import Filter
from headwater.management.pipelines.kinds import Kind
from headwater.schemas import Schema

MEMBERS: Final = {
    "filter": "filter",
    "in_schema": "inSchema",
    "out_schema": "outSchema",
    "transformation": "transformation",
    "query": "query",
    "format": "format",
    "path": "path",
    "sheet": "sheet",
    "compression": "compression",
    "format_settings": "formatSettings",
    "order_by": "orderBy",
    "user_id_column": "userIDColumn",
    "updated_at_column": "updatedAtColumn",
    "updated_at_format": "updatedAtFormat",
    "incremental": "incremental",
    "export_mode": "exportMode",
    "matching": "matching",
    "update_on_duplicates": "updateOnDuplicates",
    "table_name": "tableName",
    "table_key": "tableKey",
}
"""The documented names of what a definition holds."""


class Draft(msgspec.Struct, kw_only=True):
    """What the rules look at."""

    kind: Kind
    target: Target
    connection: Connection
    connector: Connector
    event_type: str
    name: str
    definition: Definition
    filter: Filter | None
    in_schema: Schema | None
    """The schema of what goes in: the given one. That of events takes its place once none was found to be given."""
    out_schema: Schema | None
    format: Connector | None = None
    used_in: set[str] = msgspec.field(default_factory=set)
    """The paths of the input schema that something uses."""
    used_out: set[str] = msgspec.field(default_factory=set)

    def is_given(self, field: str) -> bool:
        """Whether a member was given: an absent, null, false or empty one was not."""
        owner = self if field in ("filter", "in_schema", "out_schema") else self.definition
        return bool(getattr(owner, field))
