"""Caches the messages of profile schemas: making one of a large schema takes 100 ms, in another process."""

from collections.abc import Callable
from typing import Final

from headwater.api.messages.schema import type_message
from headwater.base.computing import Computing
from headwater.catalog import ProfileSchema, Workspace
from headwater.management.profiles import identifier_schema
from headwater.schemas import Schema, walk
from headwater.v1 import schemas_pb2 as pb

SMALL_SCHEMA_PROPERTIES: Final = 100
"""Properties up to which a message is made on the event loop, in less than 10 ms."""
MAX_PROPERTIES: Final = 100_000
"""Total number of properties of the cached schemas. Each takes about 500 bytes."""

_Derive = Callable[[Schema], pb.DataType]


class SchemaMessages:
    """The profile schemas of workspaces as messages. Do not change the messages."""

    def __init__(self, computing: Computing) -> None:
        self._computing = computing
        self._entries: dict[tuple[int, _Derive], tuple[ProfileSchema, pb.DataType]] = {}
        self._properties = 0

    async def profile_schema(self, workspace: Workspace) -> pb.DataType:
        """Return the profile schema; an object without properties if there is none. Raises as `Computing.run` does."""
        return await self._get(workspace, type_message)

    async def identifier_schema(self, workspace: Workspace) -> pb.DataType:
        """Return the part of the profile schema whose properties can be identifiers."""
        return await self._get(workspace, identifiers_message)

    async def _get(self, workspace: Workspace, derive: _Derive) -> pb.DataType:
        profiles = workspace.profile_schema
        if profiles is None:
            return pb.DataType(kind="object")
        entry = self._entries.get((workspace.id, derive))
        if entry is not None and entry[0] is profiles:
            return entry[1]
        size = sum(1 for _ in walk(profiles.schema))
        if size <= SMALL_SCHEMA_PROPERTIES:
            message = derive(profiles.schema)
        else:
            message = await self._computing.run(f"workspace {workspace.id}", derive, profiles.schema)
        self._properties += size
        if self._properties > MAX_PROPERTIES:
            self._entries.clear()
            self._properties = size
        self._entries[workspace.id, derive] = profiles, message
        return message


def identifiers_message(schema: Schema) -> pb.DataType:
    """Return the part of a schema whose properties can be identifiers, as a message."""
    found = identifier_schema(schema)
    return pb.DataType(kind="object") if found is None else type_message(found)
