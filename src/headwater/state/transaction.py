"""One transaction of the warehouse: everything that one batch of the log leads to."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw
from sqlalchemy import Column, delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from headwater.base.clock import microseconds
from headwater.base.errors import Unavailable
from headwater.state import bulk, deviceregistry, lanes, tables, traits
from headwater.state.deduplication import Message, MessageStates, MessageStore
from headwater.state.devices import DeviceEvent
from headwater.state.identities import (
    Identities,
    IdentityChanges,
    IdentityKey,
    IdentityObservation,
    IdentityState,
    ids_of,
    keys_of,
    merge,
)
from headwater.state.lanes import Lane, NewChunk
from headwater.state.rejections import Rejections
from headwater.state.rows import LatestCall, RejectedEvent, StoredEvent
from headwater.state.traits import TraitsUpdate

_IDENTITY_KEY: Final = ("connection", "identity_id", "is_anonymous", "pipeline")
_IDENTITY_COLUMNS: Final = [column for column in tables.identities.c if column.name != "id"]
_IDS_PER_QUERY: Final = 200


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

    async def add_events(self, events: Sequence[StoredEvent]) -> None:
        """Store events."""
        rows = [
            (
                event.position,
                event.workspace,
                event.connection,
                event.pipeline,
                event.timestamp,
                event.received_at,
                event.document.decode(),
            )
            for event in events
        ]
        await bulk.insert(self._connection, list(tables.events.c), rows)

    async def merge_identities(self, observations: Sequence[IdentityObservation]) -> IdentityChanges:
        """What becomes of the identities by what was seen, in its order. Nothing is written yet."""
        table = tables.identities.c
        known: Identities = dict.fromkeys(keys_of(observations))
        known |= await self._identities([getattr(table, name) for name in _IDENTITY_KEY], map(_values, known))
        known |= await self._identities([table.connection, table.identity_id], ids_of(observations))
        gone = merge(observations, known)
        return IdentityChanges(gone, {key: state for key, state in known.items() if state is not None})

    async def change_identities(self, changes: IdentityChanges) -> None:
        """Write what `merge_identities` found."""
        table = tables.identities.c
        key_columns = [getattr(table, name) for name in _IDENTITY_KEY]
        for some in bulk.among(self._connection, key_columns, map(_values, changes.gone)):
            await self._connection.execute(delete(tables.identities).where(some))
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
        await deviceregistry.change(self._connection, events)

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
        """Remove the oldest refused events of every workspace that has clearly more than `MAX_REJECTED` of them, and
        some of those that `remove_sources_except` is to remove."""
        await self._rejections.shorten(self._connection)

    async def remove_identities_except(self, pipelines: Iterable[int]) -> int:
        """Remove the identities of pipelines that are no more; `pipelines` are those that are. Returns how many."""
        return await self._remove_except(tables.identities.c.pipeline, pipelines)

    async def remove_sources_except(self, connections: Collection[int], *, workspaces: Collection[int]) -> None:
        """Remove what there is of connections and workspaces that are no more, but for events; given are those that
        are.

        Refused events and their counts may be many: `shorten_rejected` removes some of them each time.
        """
        for table in (tables.devices, tables.traits, tables.calls):
            await self._remove_except(table.c.connection, connections)
        await self._rejections.remove_except(self._connection, sources=connections, workspaces=workspaces)

    async def advance(self, consumer: str, expected: int, new: int) -> None:
        """Move the position through which `consumer` has processed the log from `expected`, 0 at first, to `new`.

        Raises Unavailable when the position is another one: then another process has processed this batch.
        """
        table = tables.progress
        if expected == 0:
            await bulk.upsert(
                self._connection, list(table.c), [(consumer, 0)], key=("consumer",), keeping=("position",)
            )
        moved = await self._connection.execute(
            update(table).where(table.c.consumer == consumer, table.c.position == expected).values(position=new)
        )
        if moved.rowcount != 1:
            raise Unavailable("another process consumes the event log")

    async def _remove_except(self, column: Column[int], present: Iterable[int]) -> int:
        """Remove the rows with another value in the column. Returns how many."""
        known = set(await self._connection.scalars(select(column).distinct()))
        removed = 0
        for some in bulk.chunks(known - set(present), _IDS_PER_QUERY):
            removed += (await self._connection.execute(delete(column.table).where(column.in_(some)))).rowcount
        return removed

    async def _identities(self, columns: bulk.Columns, keys: Iterable[tuple[Any, ...]]) -> Identities:
        known: Identities = {}
        for some in bulk.among(self._connection, columns, keys):
            for row in await self._connection.execute(select(tables.identities).where(some)):
                key = IdentityKey(row.connection, row.identity_id, row.is_anonymous, row.pipeline)
                ids = msgspec.json.decode(row.anonymous_ids, type=list[str])
                known[key] = IdentityState(row.workspace, ids, row.updated_at, row.attributes)
        return known


def _values(key: IdentityKey) -> tuple[int, str, bool, int]:
    return key.connection, key.identity_id, key.is_anonymous, key.pipeline
