"""A transaction of the state store: all effects of one batch of the log.

A change of threads costs as much as a small statement, and a batch has some twenty of those. So writes without a result
wait, and run together with the next statement that has a result, or with the commit.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Final, TypeVar

from msgspec import Raw, Struct
from sqlalchemy import Column, Connection, update
from sqlalchemy.dialects import postgresql, sqlite

from headwater.base.clock import microseconds
from headwater.base.errors import Unavailable
from headwater.state import bulk, devices, identityrows, imports, lanes, tables, traits
from headwater.state.counts import PipelineCounts
from headwater.state.deduplication import Message, MessageKey, MessageStates, MessageStore
from headwater.state.devices import DeviceEvent
from headwater.state.identities import IdentityChanges, IdentityObservation
from headwater.state.lanes import Lane, NewChunk
from headwater.state.profiles.removing import remove_identities_except, remove_workspaces_except
from headwater.state.profiles.resolving import ProfileUpdater, ResolutionRows, update_profiles
from headwater.state.rejections import RejectedEvent, Rejections
from headwater.state.runcounts import record_run_counts, remove_run_counts_except
from headwater.state.runs import Run, RunError, RunProgress
from headwater.state.traits import TraitsUpdate
from headwater.storage.sessions import Session

MAX_REMOVED_ROWS: Final = 10_000
"""Maximum number of rows of deleted sources and pipelines that one call deletes: about 0.1 s, in which events wait."""

_Result = TypeVar("_Result")
Work = Callable[[Connection], object]


class LatestCall(Struct, frozen=True):
    """The latest call with a key of a source connection."""

    connection: int
    workspace: int
    received_at: datetime
    protocol: str


class Transaction:
    """All effects of one batch of the log, in their order.

    A method that returns nothing may leave its statements to a later one, which then raises their errors. Do not change
    its arguments before.
    """

    def __init__(self, session: Session, messages: MessageStore, rejections: Rejections) -> None:
        self._session = session
        self._messages = messages
        self._rejections = rejections
        self._waiting: list[Work] = []
        """Writes without a result, in their order."""

    async def run(self, work: Callable[[Connection], _Result]) -> _Result:
        """Run the writes that wait, and then `work`, possibly in another thread."""
        waiting, self._waiting = self._waiting, []

        def run_all(connection: Connection) -> _Result:
            for each in waiting:
                each(connection)
            return work(connection)

        return await self._session.run(run_all)

    async def flush(self) -> None:
        """Run the writes that wait."""
        if self._waiting:
            await self.run(lambda _: None)

    async def commit(self) -> None:
        """Run the writes that wait, and commit."""
        await self.run(Connection.commit)

    def write_later(self, work: Work) -> None:
        """Run `work` with the next statement that has a result, or before the commit."""
        self._waiting.append(work)

    async def lookup(self, messages: Iterable[Message]) -> MessageStates:
        """Return the states of those messages that are known."""
        return await self._messages.lookup(self, {message.key for message in messages})

    async def save(self, entries: MessageStates) -> None:
        """Save the states of messages."""
        if entries:
            await self.flush()  # states can be outside of the transaction: an error of earlier writes comes first
            await self._messages.save(self, entries)

    async def remove_messages(self, messages: Collection[MessageKey]) -> int:
        """Delete the states of messages; return the number of those that were known."""
        if not messages:
            return 0
        await self.flush()
        known = await self._messages.lookup(self, messages)
        await self._messages.remove(self, known.keys())
        return len(known)

    async def trim_messages(self) -> None:
        """Delete old messages."""
        await self._messages.trim(self)

    async def merge_identities(self, observations: Sequence[IdentityObservation]) -> IdentityChanges:
        """Return the identity changes of the observations, in their order. Nothing is written."""
        return await self.run(lambda connection: identityrows.find_changes(connection, observations))

    async def change_identities(self, changes: IdentityChanges, updater: ProfileUpdater | None = None) -> None:
        """Write the changes that `merge_identities` returned, and let `updater` update the profiles."""
        if not changes.removed and not changes.changed:
            return

        def write(connection: Connection) -> None:
            changed = identityrows.write_changes(connection, changes)
            if changed and updater is not None:
                update_profiles(connection, changed, updater)

        self.write_later(write)

    async def change_devices(self, events: Sequence[DeviceEvent]) -> None:
        """Apply the events to the devices, in their order."""
        self.write_later(lambda connection: devices.change(connection, events))

    async def merge_traits(self, updates: Sequence[TraitsUpdate]) -> list[Raw]:
        """Apply updates to the stored traits, in their order. Return the traits of each person after each update."""
        return await self.run(lambda connection: traits.merge(connection, updates))

    async def lanes(self) -> list[Lane]:
        """Return all lanes that have entries."""
        return await self.run(lanes.lanes)

    async def append_to_lanes(
        self, chunks: Sequence[NewChunk], documents: Mapping[int, Sequence[bytes]], *, now: int
    ) -> None:
        """Append entries to lanes. `documents` are those of each source, `now` is in microseconds since the epoch."""
        bodies = await asyncio.to_thread(lanes.pack_documents, documents) if documents else {}
        self.write_later(lambda connection: lanes.append(connection, chunks, bodies, now=now))

    async def finish_lanes(self, positions: Mapping[int, int]) -> None:
        """Delete the finished chunks of lanes. `positions` are the last finished position of each lane."""
        self.write_later(lambda connection: lanes.finish(connection, positions))

    async def remove_lanes_except(self, pipelines: Collection[int]) -> None:
        """Delete the lanes of pipelines that are not in `pipelines`."""
        self.write_later(lambda connection: lanes.remove_except(connection, pipelines))

    async def save_calls(self, calls: Sequence[LatestCall]) -> None:
        """Save the latest call of each connection; the calls are of different connections."""
        rows = [(call.connection, call.workspace, microseconds(call.received_at), call.protocol) for call in calls]
        if rows:
            columns = list(tables.calls.c)
            self.write_later(lambda connection: bulk.upsert(connection, columns, rows, key=("connection",)))

    async def add_rejected(self, rejected: Sequence[RejectedEvent]) -> None:
        """Store and count rejected events. Only the newest `MAX_UNKNOWN_REJECTED` with an unknown key are kept."""
        self.write_later(lambda connection: self._rejections.add(connection, rejected))

    async def shorten_rejected(self) -> None:
        """Delete the oldest rejected events of workspaces that clearly exceed `MAX_REJECTED`."""
        self.write_later(self._rejections.shorten)

    async def remove_identities_except(self, pipelines: Iterable[int]) -> int:
        """Delete identities of pipelines that are not in `pipelines`, at most `MAX_REMOVED_ROWS`. Return their number.

        They wait for a resolution, which takes them out of their profiles. Call it again, in another transaction, until
        it returns 0.
        """
        return await self.run(
            lambda connection: remove_identities_except(connection, pipelines, limit=MAX_REMOVED_ROWS)
        )

    async def remove_profiles_except(self, workspaces: Collection[int]) -> int:
        """Delete everything of profiles of workspaces that are not in `workspaces`, a limited number of rows. Return
        their number.

        Call it again, in another transaction, until it returns 0.
        """
        return await self.run(
            lambda connection: remove_workspaces_except(connection, workspaces, limit=MAX_REMOVED_ROWS)
        )

    async def on_profiles(self, work: Callable[[ResolutionRows], _Result]) -> _Result:
        """Run the writes that wait, and then `work` with the rows of profiles, possibly in another thread."""
        return await self.run(lambda connection: work(ResolutionRows(connection)))

    def on_profiles_later(self, work: Callable[[ResolutionRows], object]) -> None:
        """Run `work` with the rows of profiles with the next statement that has a result, or before the commit."""
        self.write_later(lambda connection: work(ResolutionRows(connection)))

    async def remove_sources_except(self, connections: Collection[int], *, workspaces: Collection[int]) -> int:
        """Delete the data, except identities, of connections and workspaces that are not in these sets. Return the row
        count.

        A call deletes a limited number of rows: call it again, in another transaction, until it returns 0.
        """

        def remove(connection: Connection) -> int:
            removed = 0
            for table in (tables.devices, tables.traits, tables.calls):
                removed += _remove_except(connection, table.c.connection, connections)
            return removed + self._rejections.remove_except(connection, sources=connections, workspaces=workspaces)

        return await self.run(remove)

    async def record_counts(self, counts: PipelineCounts, *, now: int) -> None:
        """Add counts of the records of pipelines. `now` is in microseconds since the epoch."""
        self.write_later(lambda connection: tables.counts.record(connection, counts, now=now))

    async def record_run_counts(self, run: Run, progress: RunProgress, errors: Sequence[RunError], *, now: int) -> bool:
        """Add the counts of a run to those of its pipeline, as `runcounts.record_run_counts` does."""
        return await self.run(lambda connection: record_run_counts(connection, run, progress, errors, now=now))

    async def compact_counts(self, *, now: int) -> None:
        """Move old counts of pipelines into larger periods, and delete old ones, a limited number."""
        self.write_later(lambda connection: tables.counts.compact(connection, now=now))

    async def remove_counts_except(self, pipelines: Collection[int]) -> int:
        """Delete counts and errors of pipelines that are not in `pipelines`, a limited number. Return their number."""

        def remove(connection: Connection) -> int:
            removed = tables.counts.remove_except(connection, pipelines)
            return removed + remove_run_counts_except(connection, pipelines)

        return await self.run(remove)

    async def remove_runs_except(self, pipelines: Collection[int]) -> int:
        """Delete the progress of runs and the cursors of pipelines that are not in `pipelines`. Return their number.

        Call it before `remove_identities_except`: an import of such a pipeline writes nothing after it.
        """
        return await self.run(
            lambda connection: imports.remove_runs_except(connection, pipelines, limit=MAX_REMOVED_ROWS)
        )

    async def finish_resolution_request(self, workspace: int, requested_at: int) -> None:
        """Delete the request of an import for a resolution, unless it was made again since `requested_at`."""
        self.write_later(lambda connection: imports.finish_resolution_request(connection, workspace, requested_at))

    async def advance(self, consumer: str, expected: int, new: int) -> None:
        """Move the position up to which `consumer` has processed the log from `expected`, initially 0, to `new`.

        Raises Unavailable if the position is another one, because another process has processed this batch.
        """
        await self.advance_checkpoint(consumer, encode_position(expected) if expected else None, encode_position(new))

    async def advance_checkpoint(self, owner: str, expected: bytes | None, new: bytes) -> None:
        """Replace the checkpoint of `owner`, which must be `expected`; None if it has none yet.

        Raises Unavailable if it is another one, because another process continues from it.
        """
        if not await self.run(lambda connection: _move_checkpoint(connection, owner, expected, new)):
            raise Unavailable("another process consumes the event log")


def _remove_except(connection: Connection, column: Column[int], present: Iterable[int]) -> int:
    removed = bulk.distinct(connection, column) - set(present)
    return bulk.remove_some(connection, column, sorted(removed), limit=MAX_REMOVED_ROWS)


def _move_checkpoint(connection: Connection, owner: str, expected: bytes | None, new: bytes) -> bool:
    """Replace the checkpoint of `owner` if it is `expected`; return whether it is."""
    table = tables.checkpoints
    if expected is None:
        insert = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
        moved = connection.execute(insert(table).values(owner=owner, value=new).on_conflict_do_nothing())
    else:
        moved = connection.execute(
            update(table).where(table.c.owner == owner, table.c.value == expected).values(value=new)
        )
    return moved.rowcount == 1


def encode_position(position: int) -> bytes:
    """Return a position of the log as a checkpoint."""
    return position.to_bytes(8)


def decode_position(checkpoint: bytes | None) -> int:
    """Return the position in a checkpoint; 0 for None."""
    return 0 if checkpoint is None else int.from_bytes(checkpoint)
