"""A pipeline that is being created or changed: the request, and the connection it applies to."""

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
"""Documented names of the members of a definition."""


class Draft(msgspec.Struct, kw_only=True):
    """The input of the rules."""

    kind: Kind
    target: Target
    connection: Connection
    connector: Connector
    event_type: str
    name: str
    definition: Definition
    filter: Filter | None
    in_schema: Schema | None
    """The input schema. For pipelines that read events it is the event schema, after checking that none was given."""
    out_schema: Schema | None
    format: Connector | None = None
    used_in: set[str] = msgspec.field(default_factory=set)
    """The paths of the input schema that a member uses."""
    used_out: set[str] = msgspec.field(default_factory=set)

    def is_given(self, field: str) -> bool:
        """Return whether a member was given; an absent, null, false or empty member was not."""
        owner = self if field in ("filter", "in_schema", "out_schema") else self.definition
        return bool(getattr(owner, field))
