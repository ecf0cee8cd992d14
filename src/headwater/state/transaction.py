"""One transaction of the warehouse: everything that one batch of the log leads to."""

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
from headwater.state.deduplication import Message, MessageStates, MessageStore
from headwater.state.devices import DeviceEvent
from headwater.state.identities import (
    Identities,
    IdentityChanges,
    IdentityKey,
    IdentityObservation,
    IdentityState,
    ids_of,
    is_worth_a_write,
    keys_of,
    merge,
)
from headwater.state.lanes import Lane, NewChunk
from headwater.state.rejections import RejectedEvent, Rejections
from headwater.state.traits import TraitsUpdate

_IDENTITY_KEY: Final = ("connection", "identity_id", "is_anonymous", "pipeline")
_IDENTITY_COLUMNS: Final = [column for column in tables.identities.c if column.name != "id"]
MAX_REMOVED_ROWS: Final = 10_000
"""Rows that one call removes of sources and pipelines that no longer exist: about 0.1 s, in which events wait."""


class LatestCall(Struct, frozen=True):
    """The latest call with a key of a source connection."""

    connection: int
    workspace: int
    received_at: datetime
    protocol: str


class Transaction:
    """Everything that one batch of the log leads to."""

    def __init__(self, connection: AsyncConnection, ledger: MessageStore, rejections: Rejections) -> None:
        self._connection = connection
        self._messages = ledger
        self._rejections = rejections

    async def lookup(self, messages: Iterable[Message]) -> MessageStates:
        """What the ledger has of these messages."""
        return await self._messages.lookup(self._connection, {message.key for message in messages})

    async def save(self, entries: MessageStates) -> None:
        """Keep these entries in the ledger."""
        if entries:
            await self._messages.save(self._connection, entries)

    async def trim_messages(self) -> None:
        """Forget old messages."""
        await self._messages.trim(self._connection)

    async def merge_identities(self, observations: Sequence[IdentityObservation]) -> IdentityChanges:
        """Return how the identities change by the observations, in their order. Nothing is written yet."""
        table = tables.identities.c
        key = [table[name] for name in _IDENTITY_KEY]
        found = await self._identities(key, map(_values, keys_of(observations)))
        found |= await self._identities([table.connection, table.identity_id], ids_of(observations))
        known: Identities = dict.fromkeys(keys_of(observations))
        known |= {key: copy(state) for key, state in found.items()}
        gone = merge(observations, known)
        changed = {
            key: state
            for key, state in known.items()
            if state is not None and (key in gone or is_worth_a_write(found.get(key), state))
        }
        return IdentityChanges(gone, changed)

    async def change_identities(self, changes: IdentityChanges) -> None:
        """Write the changes that `merge_identities` returned."""
        key = [tables.identities.c[name] for name in _IDENTITY_KEY]
        await bulk.remove(self._connection, key, map(_values, changes.gone))
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
        """Bring the devices up to date with the events, in their order."""
        await devices.change(self._connection, events)

    async def merge_traits(self, updates: Sequence[TraitsUpdate]) -> list[Raw]:
        """Add up what is said of people, in its order; returns what is known of each from then on."""
        return await traits.merge(self._connection, updates)

    async def lanes(self) -> list[Lane]:
        """Return all lanes that have entries."""
        return await lanes.lanes(self._connection)

    async def append_to_lanes(
        self, chunks: Sequence[NewChunk], documents: Mapping[int, Sequence[bytes]], *, now: int
    ) -> None:
        """Append entries to lanes; `documents` are those of each source, `now` is in microseconds since the epoch."""
        await lanes.append(self._connection, chunks, documents, now=now)

    async def finish_lanes(self, positions: Mapping[int, int]) -> None:
        """Remove the chunks of lanes that are finished; `positions` are the last finished position of each lane."""
        await lanes.finish(self._connection, positions)

    async def remove_lanes_except(self, pipelines: Collection[int]) -> None:
        """Remove the lanes of pipelines that are not in `pipelines`."""
        await lanes.remove_except(self._connection, pipelines)

    async def save_calls(self, calls: Sequence[LatestCall]) -> None:
        """Remember the latest call of each connection; at most one of each is given."""
        rows = [(call.connection, call.workspace, microseconds(call.received_at), call.protocol) for call in calls]
        await bulk.upsert(self._connection, list(tables.calls.c), rows, key=("connection",))

    async def add_rejected(self, rejected: Sequence[RejectedEvent]) -> None:
        """Keep and count refused events; of those whose key is unknown only the newest `MAX_UNKNOWN_REJECTED`."""
        await self._rejections.add(self._connection, rejected)

    async def shorten_rejected(self) -> None:
        """Remove the oldest rejected events of workspaces that have clearly more than `MAX_REJECTED` of them."""
        await self._rejections.shorten(self._connection)

    async def remove_identities_except(self, pipelines: Iterable[int]) -> int:
        """Remove identities of pipelines that are not given, at most `MAX_REMOVED_ROWS`. Return how many.

        Call it again, in another transaction, until it returns 0.
        """
        return await self._remove_except(tables.identities.c.pipeline, pipelines)

    async def remove_sources_except(self, connections: Collection[int], *, workspaces: Collection[int]) -> int:
        """Remove data, except events and identities, of connections and workspaces that are not given. Return how many
        rows.

        A call removes a bounded number of rows: call it again, in another transaction, until it returns 0.
        """
        removed = 0
        for table in (tables.devices, tables.traits, tables.calls):
            removed += await self._remove_except(table.c.connection, connections)
        return removed + await self._rejections.remove_except(
            self._connection, sources=connections, workspaces=workspaces
        )

    async def advance(self, consumer: str, expected: int, new: int) -> None:
        """Move the position through which `consumer` has processed the log from `expected`, 0 at first, to `new`.

        Raises Unavailable when the position is another one: then another process has processed this batch.
        """
        await self.advance_checkpoint(consumer, encode_position(expected) if expected else None, encode_position(new))

    async def advance_checkpoint(self, owner: str, expected: bytes | None, new: bytes) -> None:
        """Replace the checkpoint of `owner`, which has to be `expected`; None when it has none yet.

        Raises Unavailable when it is another one: then another process continues from it.
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
        gone = await bulk.distinct(self._connection, column) - set(present)
        return await bulk.remove_some(self._connection, column, sorted(gone), limit=MAX_REMOVED_ROWS)

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
    """Return the position that a checkpoint holds; 0 for none."""
    return 0 if checkpoint is None else int.from_bytes(checkpoint)


def _values(key: IdentityKey) -> tuple[int, str, bool, int]:
    return key.connection, key.identity_id, key.is_anonymous, key.pipeline
