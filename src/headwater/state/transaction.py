"""A transaction of the state store: all effects of one batch of the log."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from datetime import datetime
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct
from sqlalchemy import Column, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.base.clock import microseconds
from headwater.base.errors import Unavailable
from headwater.state import bulk, devices, lanes, tables, traits
from headwater.state.counts import PipelineCounts
from headwater.state.deduplication import Message, MessageStates, MessageStore
from headwater.state.devices import DeviceEvent
from headwater.state.identities import (
    Identities,
    IdentityChanges,
    IdentityKey,
    IdentityObservation,
    IdentityState,
    affected_ids,
    affected_keys,
    merge,
    needs_write,
)
from headwater.state.lanes import Lane, NewChunk
from headwater.state.rejections import RejectedEvent, Rejections
from headwater.state.traits import TraitsUpdate

_IDENTITY_KEY: Final = ("connection", "identity_id", "is_anonymous", "pipeline")
_IDENTITY_COLUMNS: Final = [column for column in tables.identities.c if column.name != "id"]
MAX_REMOVED_ROWS: Final = 10_000
"""Maximum number of rows of deleted sources and pipelines that one call deletes: about 0.1 s, in which events wait."""


class LatestCall(Struct, frozen=True):
    """The latest call with a key of a source connection."""

    connection: int
    workspace: int
    received_at: datetime
    protocol: str


class Transaction:
    """All effects of one batch of the log."""

    def __init__(self, connection: AsyncConnection, messages: MessageStore, rejections: Rejections) -> None:
        self._connection = connection
        self._messages = messages
        self._rejections = rejections

    async def lookup(self, messages: Iterable[Message]) -> MessageStates:
        """Return the states of those messages that are known."""
        return await self._messages.lookup(self._connection, {message.key for message in messages})

    async def save(self, entries: MessageStates) -> None:
        """Save the states of messages."""
        if entries:
            await self._messages.save(self._connection, entries)

    async def trim_messages(self) -> None:
        """Delete old messages."""
        await self._messages.trim(self._connection)

    async def merge_identities(self, observations: Sequence[IdentityObservation]) -> IdentityChanges:
        """Return the identity changes of the observations, in their order. Nothing is written."""
        table = tables.identities.c
        key = [table[name] for name in _IDENTITY_KEY]
        found = await self._identities(key, map(_values, affected_keys(observations)))
        found |= await self._identities([table.connection, table.identity_id], affected_ids(observations))
        known: Identities = dict.fromkeys(affected_keys(observations))
        known |= {key: copy(state) for key, state in found.items()}
        removed = merge(observations, known)
        changed = {
            key: state
            for key, state in known.items()
            if state is not None and (key in removed or needs_write(found.get(key), state))
        }
        return IdentityChanges(removed, changed)

    async def change_identities(self, changes: IdentityChanges) -> None:
        """Write the changes that `merge_identities` returned."""
        key = [tables.identities.c[name] for name in _IDENTITY_KEY]
        await bulk.remove(self._connection, key, map(_values, changes.removed))
        rows = [
            (
                state.workspace,
                key.connection,
                key.identity_id,
                key.is_anonymous,
                key.pipeline,
                msgspec.json.encode(state.anonymous_ids).decode(),
                state.updated_at,
                state.attributes,
            )
            for key, state in changes.changed.items()
        ]
        await bulk.upsert(self._connection, _IDENTITY_COLUMNS, rows, key=_IDENTITY_KEY)

    async def change_devices(self, events: Sequence[DeviceEvent]) -> None:
        """Apply the events to the devices, in their order."""
        await devices.change(self._connection, events)

    async def merge_traits(self, updates: Sequence[TraitsUpdate]) -> list[Raw]:
        """Apply updates to the stored traits, in their order. Return the traits of each person after each update."""
        return await traits.merge(self._connection, updates)

    async def lanes(self) -> list[Lane]:
        """Return all lanes that have entries."""
        return await lanes.lanes(self._connection)

    async def append_to_lanes(
        self, chunks: Sequence[NewChunk], documents: Mapping[int, Sequence[bytes]], *, now: int
    ) -> None:
        """Append entries to lanes. `documents` are those of each source, `now` is in microseconds since the epoch."""
        await lanes.append(self._connection, chunks, documents, now=now)

    async def finish_lanes(self, positions: Mapping[int, int]) -> None:
        """Delete the finished chunks of lanes. `positions` are the last finished position of each lane."""
        await lanes.finish(self._connection, positions)

    async def remove_lanes_except(self, pipelines: Collection[int]) -> None:
        """Delete the lanes of pipelines that are not in `pipelines`."""
        await lanes.remove_except(self._connection, pipelines)

    async def save_calls(self, calls: Sequence[LatestCall]) -> None:
        """Save the latest call of each connection; the calls are of different connections."""
        rows = [(call.connection, call.workspace, microseconds(call.received_at), call.protocol) for call in calls]
        await bulk.upsert(self._connection, list(tables.calls.c), rows, key=("connection",))

    async def add_rejected(self, rejected: Sequence[RejectedEvent]) -> None:
        """Store and count rejected events. Only the newest `MAX_UNKNOWN_REJECTED` with an unknown key are kept."""
        await self._rejections.add(self._connection, rejected)

    async def shorten_rejected(self) -> None:
        """Delete the oldest rejected events of workspaces that clearly exceed `MAX_REJECTED`."""
        await self._rejections.shorten(self._connection)

    async def remove_identities_except(self, pipelines: Iterable[int]) -> int:
        """Delete identities of pipelines that are not in `pipelines`, at most `MAX_REMOVED_ROWS`. Return their number.

        Call it again, in another transaction, until it returns 0.
        """
        return await self._remove_except(tables.identities.c.pipeline, pipelines)

    async def remove_sources_except(self, connections: Collection[int], *, workspaces: Collection[int]) -> int:
        """Delete the data, except identities, of connections and workspaces that are not in these sets. Return the row
        count.

        A call deletes a limited number of rows: call it again, in another transaction, until it returns 0.
        """
        removed = 0
        for table in (tables.devices, tables.traits, tables.calls):
            removed += await self._remove_except(table.c.connection, connections)
        return removed + await self._rejections.remove_except(
            self._connection, sources=connections, workspaces=workspaces
        )

    async def record_counts(self, counts: PipelineCounts, *, now: int) -> None:
        """Add counts of the records of pipelines. `now` is in microseconds since the epoch."""
        await tables.counts.record(self._connection, counts, now=now)

    async def compact_counts(self, *, now: int) -> None:
        """Move old counts of pipelines into larger periods, and delete old ones, a limited number."""
        await tables.counts.compact(self._connection, now=now)

    async def remove_counts_except(self, pipelines: Collection[int]) -> int:
        """Delete counts and errors of pipelines that are not in `pipelines`, a limited number. Return their number."""
        return await tables.counts.remove_except(self._connection, pipelines)

    async def advance(self, consumer: str, expected: int, new: int) -> None:
        """Move the position up to which `consumer` has processed the log from `expected`, initially 0, to `new`.

        Raises Unavailable if the position is another one, because another process has processed this batch.
        """
        await self.advance_checkpoint(consumer, encode_position(expected) if expected else None, encode_position(new))

    async def advance_checkpoint(self, owner: str, expected: bytes | None, new: bytes) -> None:
        """Replace the checkpoint of `owner`, which must be `expected`; None if it has none yet.

        Raises Unavailable if it is another one, because another process continues from it.
        """
        table = tables.checkpoints
        if expected is None:
            insert = sqlite.insert if self._connection.dialect.name == "sqlite" else postgresql.insert
            moved = await self._connection.execute(
                insert(table).values(owner=owner, value=new).on_conflict_do_nothing()
            )
        else:
            moved = await self._connection.execute(
                update(table).where(table.c.owner == owner, table.c.value == expected).values(value=new)
            )
        if moved.rowcount != 1:
            raise Unavailable("another process consumes the event log")

    async def _remove_except(self, column: Column[int], present: Iterable[int]) -> int:
        removed = await bulk.distinct(self._connection, column) - set(present)
        return await bulk.remove_some(self._connection, column, sorted(removed), limit=MAX_REMOVED_ROWS)

    async def _identities(
        self, columns: bulk.Columns, keys: Iterable[tuple[Any, ...]]
    ) -> dict[IdentityKey, IdentityState]:
        found = await bulk.lookup(self._connection, _IDENTITY_COLUMNS, columns, keys)
        return {
            IdentityKey(source, id_, bool(is_anonymous), pipeline): IdentityState(
                workspace, _decode_ids(ids), updated_at, attributes
            )
            for workspace, source, id_, is_anonymous, pipeline, ids, updated_at, attributes in found
        }


_decode_ids: Final = msgspec.json.Decoder(list[str]).decode


def encode_position(position: int) -> bytes:
    """Return a position of the log as a checkpoint."""
    return position.to_bytes(8)


def decode_position(checkpoint: bytes | None) -> int:
    """Return the position in a checkpoint; 0 for None."""
    return 0 if checkpoint is None else int.from_bytes(checkpoint)


def _values(key: IdentityKey) -> tuple[int, str, bool, int]:
    return key.connection, key.identity_id, key.is_anonymous, key.pipeline
