"""Erases persons from all stores, in steps that continue after a crash.

It runs in the worker, which alone writes the state store and the warehouse. The order protects what an interruption
leaves: first the person is suppressed, so that events that wait in the log have no effect; then each store is counted
and emptied; then the subject is forgotten, and files are overwritten. The note with the progress is in the state store.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import partial
from hashlib import blake2b
from typing import Final
from uuid import UUID, uuid4

import msgspec
import structlog
from msgspec import Struct
from msgspec.structs import replace

from headwater.base.clock import Clock, microseconds
from headwater.base.errors import Unavailable
from headwater.base.mentions import Mentions
from headwater.base.waiting import wait
from headwater.catalog import Catalog
from headwater.log import EventLog
from headwater.processing.lanes import CONSUMER as LANES
from headwater.state import MessageKey, StateStore, Transaction, erasure, tables
from headwater.state.deliveries import DeliveryErasure, DeliveryStore
from headwater.state.erasure import Subject
from headwater.state.lanestore import LaneStore
from headwater.state.operations import (
    ERASURE_KINDS,
    ErasedStore,
    ErasureParameters,
    ErasureReceipt,
    Operation,
    OperationLost,
    OperationParameters,
    OperationStatus,
    OperationStore,
    ReplayParameters,
    SplitParameters,
)
from headwater.state.profiles.model import IdentityName
from headwater.state.profiles.resolving import ProfileUpdater
from headwater.state.runs import RunStore
from headwater.state.suppressions import ANY_CONNECTION, PersonName
from headwater.warehouse import ErasureCursor, EventCursor, Person, PersonSet, Warehouse

POLL_SECONDS: Final = 1.0
"""Interval at which the next erasure is looked for."""
HEARTBEAT_SECONDS: Final = 3.0
"""Interval at which the lease of an operation is prolonged."""
WAIT_SECONDS: Final = 0.5
"""Interval at which a resolution, or a reader of a file, is waited for."""
COURIER_SECONDS: Final = 1.0
"""Time in which the courier notices that deliveries were erased, and drops those that it holds in memory."""
MAX_WAIT_SECONDS: Final = 3_600.0
"""Time after which an erasure that waits for a resolution, or for results of functions, fails."""
MAX_OVERWRITING_SECONDS: Final = 600.0
"""Time after which an erasure ends although a reader still uses former versions of pages."""
PAGE_EVENTS: Final = 500
"""Number of events that are counted in one step."""

_NOTE_OWNER: Final = "erasure"
"""Begins the owner of a note, before the id of the operation."""
_log = structlog.get_logger(__name__)


class _Note(Struct, omit_defaults=True):
    """The progress of an erasure. It is stored as MessagePack: add fields at the end only, with a default."""

    stage: str
    subject: Subject | None = None
    """None once everything is removed: then nothing names the person."""
    removed: dict[str, int] = {}
    events_before: EventCursor | None = None
    erasure_cursor: ErasureCursor | None = None
    after: int = 0
    delivery_cursor: tuple[int, int] = (0, 0)
    log_position: int = 0
    log_until: int | None = None

    def add(self, store: str, number: int) -> None:
        """Count removed rows."""
        if number:
            self.removed[store] = self.removed.get(store, 0) + number


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(_Note).decode


class _Identified(Struct, rename="camel"):
    connection_id: int
    message_id: str


_decode_message: Final = msgspec.json.Decoder(_Identified).decode


class Eraser:
    """Executes erasures, one after another, while this process holds the lease of the consumer."""

    def __init__(
        self,
        log: EventLog,
        catalog: Catalog,
        state: StateStore,
        warehouse: Warehouse,
        operations: OperationStore,
        clock: Clock,
        *,
        keep: timedelta,
        deliveries: DeliveryStore | None = None,
        store: LaneStore | None = None,
        runs: RunStore | None = None,
        updater: ProfileUpdater,
    ) -> None:
        """`keep` is how long entries stay in the log after every consumer has finished them. `updater` takes erased
        identities out of their profiles."""
        self._event_log = log
        self._catalog = catalog
        self._state = state
        self._warehouse = warehouse
        self._operations = operations
        self._clock = clock
        self._keep = keep
        self._deliveries = deliveries
        self._store = store
        self._runs = runs
        self._updater = updater
        self._owner = f"worker-{uuid4()}"

    async def run(self, stop: asyncio.Event) -> None:
        """Erase until `stop` is set. An erasure that is interrupted continues at the next start."""
        has_lost = True
        while not stop.is_set():
            try:
                if has_lost:
                    await self._forget_ended()
                    has_lost = False
                operation = await self._operations.claim(self._owner, kinds=ERASURE_KINDS)
                if operation is not None:
                    await self.execute(operation, stop)
                    continue
            except OperationLost as error:
                _log.warning("an erasure was deleted or is executed by another process", reason=error.message)
                has_lost = True
            except Unavailable as error:
                _log.warning("an erasure waits", reason=error.message)
            await wait(stop, POLL_SECONDS)

    async def execute(self, operation: Operation, stop: asyncio.Event) -> None:
        """Execute an erasure to its end, or until `stop` is set. Raises Unavailable; it can be continued then."""
        running = _Erasure(self, operation)
        try:
            async with self._holding(operation):
                await running.run(stop)
        except Unavailable:
            with suppress(Unavailable):
                await self._operations.release(operation.id, self._owner)
            raise
        except Exception as error:
            _log.exception("an erasure failed", operation=operation.id)
            await running.give_up()
            await self._finish(operation, "Failed", f"internal error ({type(error).__name__})")
            await running.forget()

    async def _forget_ended(self) -> None:
        """Delete the notes of erasures that have ended, or were deleted with their workspace."""
        async with self._state.transaction() as transaction:
            owners = await transaction.run(lambda connection: erasure.note_owners(connection, f"{_NOTE_OWNER} "))
        for owner in owners:
            found = await self._operations.find(int(owner.removeprefix(f"{_NOTE_OWNER} ")))
            if found is None or found.ended_at is not None:
                async with self._state.transaction() as transaction:
                    await transaction.run(partial(erasure.remove_note, owner=owner))

    @asynccontextmanager
    async def _holding(self, operation: Operation) -> AsyncIterator[None]:
        """Prolong the lease of the operation during the block."""

        async def prolong() -> None:
            while True:
                await asyncio.sleep(HEARTBEAT_SECONDS)
                with suppress(Unavailable):
                    await self._operations.advance(operation.id, self._owner, done=0, enqueued=0, total=None)

        heartbeat = asyncio.create_task(prolong())
        try:
            yield
        finally:
            heartbeat.cancel()
            with suppress(asyncio.CancelledError):
                await heartbeat

    async def _finish(self, operation: Operation, status: OperationStatus, error: str = "", result: str = "") -> None:
        await self._operations.replace_parameters(operation.id, self._owner, redacted(operation.parameters))
        await self._operations.finish(operation.id, self._owner, status, error, result=result)


def redacted(parameters: object) -> ErasureParameters:
    """Return the parameters of an erasure with a digest in the place of the person's ids."""
    assert isinstance(parameters, ErasureParameters)
    if parameters.digest:
        return parameters
    named = msgspec.json.encode(replace(parameters, suppress=False, validate_only=False))
    digest = blake2b(named, digest_size=16).hexdigest()
    return replace(parameters, user_id=None, anonymous_id=None, digest=digest)


class _Erasure:
    """The execution of one erasure."""

    def __init__(self, eraser: Eraser, operation: Operation) -> None:
        assert isinstance(operation.parameters, ErasureParameters)
        self._eraser = eraser
        self._operation = operation
        self._parameters = operation.parameters
        self._dry = operation.parameters.validate_only
        self._state = eraser._state
        self._note_owner = f"{_NOTE_OWNER} {operation.id}"
        self._stages: dict[str, Callable[[_Note, Subject], Awaitable[bool]]] = {
            "count events": self._count_events,
            "events": self._erase_events,
            "identities": self._erase_identities,
            "profiles": self._erase_profiles,
            "people": self._erase_devices_and_traits,
            "rejected": self._erase_rejected,
            "lanes": self._erase_lanes,
            "lane results": self._wait_for_lane_results,
            "count deliveries": self._count_deliveries,
            "deliveries": self._erase_deliveries,
            "errors": self._erase_errors,
            "operations": self._erase_operations,
            "runs": self._erase_run_errors,
        }
        self._waiting_until = 0.0
        self._mentions = Mentions(())
        self._persons: list[Person] = []

    async def run(self, stop: asyncio.Event) -> None:
        note = await self._begin()
        while note.subject is not None:
            if stop.is_set():
                await self._eraser._operations.release(self._operation.id, self._eraser._owner)
                return
            if await self._advance(note):
                await self._end(note)
                await self._let_in(note)
                await self._eraser._finish(self._operation, "Cancelled")
                await self.forget()
                return
            await self._step(note)
        await self._complete(note, stop)

    async def give_up(self) -> None:
        """Forget the person after a failure, but for the note: the person's further events have effects again."""
        try:
            note = _Note("failed")
            await self._end(note)
            await self._let_in(note)
        except Unavailable:
            raise
        except Exception:
            _log.exception("a failed erasure still drops the events of its person", operation=self._operation.id)

    async def _advance(self, note: _Note) -> bool:
        return await self._eraser._operations.advance(
            self._operation.id, self._eraser._owner, done=sum(note.removed.values()), enqueued=0, total=None
        )

    # --- Begin and end ------------------------------------------------------------------------------------------------

    async def _begin(self) -> _Note:
        """Return the stored note, or find the person, suppress it, and store a new note."""
        if not self._dry:
            async with self._transaction() as transaction:
                stored = await transaction.run(lambda connection: erasure.read_note(connection, self._note_owner))
            if stored is not None:
                note = _decode(stored)
                self._know(note)
                return note
        await self._eraser._catalog.refresh()
        async with self._transaction() as transaction:
            subject = await self._find(transaction)
            note = _Note(next(iter(self._stages)), subject)
            if not self._dry:
                now, suppressions = self._now(), self._state.suppressions
                await transaction.run(
                    lambda connection: suppressions.add(
                        connection, subject.workspace, subject.names, erasure=self._operation.id, now=now
                    )
                )
                self._write(transaction, note)
        self._know(note)
        return note

    async def _find(self, transaction: Transaction) -> Subject:
        workspace, parameters = self._operation.workspace, self._parameters
        if parameters.profile is not None:
            kpid = UUID(parameters.profile).bytes
            return await transaction.run(lambda connection: erasure.find_profile(connection, workspace, kpid))
        id_, is_anonymous = parameters.user_id, False
        if id_ is None:
            id_, is_anonymous = parameters.anonymous_id, True
        if id_ is None:
            return Subject(workspace)
        only, id = parameters.connection, id_
        connections = [each.id for each in self._eraser._catalog.connections(workspace)] if only is None else [only]
        names = [IdentityName(connection, id, is_anonymous) for connection in connections]
        subject = await transaction.run(lambda connection: erasure.find_names(connection, workspace, names))
        if only is not None:
            return subject
        return replace(subject, names=(PersonName(ANY_CONNECTION, id, is_anonymous), *subject.names))

    def _know(self, note: _Note) -> None:
        subject = note.subject
        if subject is not None:
            self._mentions = subject.mentions()
            self._persons = [_person(name) for name in subject.names]

    async def _end(self, note: _Note) -> None:
        """Forget the person."""
        note.subject, note.stage = None, "overwrite"
        if not self._dry:
            async with self._transaction() as transaction:
                self._write(transaction, note)

    async def _let_in(self, note: _Note) -> None:
        """Let the person's events in again, unless it is suppressed. Those accepted until now have no effect."""
        if note.stage == "finish":
            return
        last = await self._eraser._event_log.last_position()
        note.stage, note.log_position = "finish", last
        if note.removed:
            note.log_until = self._now() + self._eraser._keep // timedelta(microseconds=1)
        if self._dry:
            return
        suppressions = self._state.suppressions
        async with self._transaction() as transaction:
            if not self._parameters.suppress:
                await transaction.run(lambda connection: suppressions.end(connection, self._operation.id, last))
            self._write(transaction, note)

    async def _complete(self, note: _Note, stop: asyncio.Event) -> None:
        """Overwrite what is left in files, and end the operation, unless `stop` is set before."""
        eraser, operation = self._eraser, self._operation
        await eraser._operations.replace_parameters(operation.id, eraser._owner, redacted(operation.parameters))
        if not self._dry:
            stores: list[Callable[[], Awaitable[bool]]] = [eraser._operations.overwrite_removed]
            if note.removed:
                stores += [self._state.overwrite_removed, eraser._warehouse.overwrite_removed]
                others = (eraser._deliveries, eraser._store, eraser._runs)
                stores += [each.overwrite_removed for each in others if each is not None]
            else:
                stores.append(self._state.overwrite_removed)
            await self._overwrite(stores, stop)
            if stop.is_set():
                await eraser._operations.release(operation.id, eraser._owner)
                return
        await self._let_in(note)
        receipt = ErasureReceipt(
            stores=tuple(ErasedStore(store, number) for store, number in sorted(note.removed.items())),
            log_position=note.log_position,
            log_until=note.log_until,
        )
        await eraser._operations.finish(
            operation.id, eraser._owner, "Completed", result=msgspec.json.encode(receipt).decode()
        )
        await self.forget()

    async def _overwrite(self, stores: Sequence[Callable[[], Awaitable[bool]]], stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + MAX_OVERWRITING_SECONDS
        for overwrite in stores:
            while not stop.is_set() and not await overwrite():
                if loop.time() > end:
                    _log.warning("a reader keeps erased data in a file", operation=self._operation.id)
                    return
                await wait(stop, WAIT_SECONDS)

    async def forget(self) -> None:
        """Delete the note."""
        if not self._dry:
            async with self._transaction() as transaction:
                await transaction.run(lambda connection: erasure.remove_note(connection, self._note_owner))

    # --- Steps --------------------------------------------------------------------------------------------------------

    async def _step(self, note: _Note) -> None:
        """Do one step of the present stage; at its end begin the next one."""
        assert note.subject is not None
        if not await self._stages[note.stage](note, note.subject):
            return
        stages = list(self._stages)
        following = stages.index(note.stage) + 1
        if following == len(stages):
            await self._end(note)
            return
        note.stage, note.after = stages[following], 0
        self._waiting_until = 0.0
        async with self._transaction() as transaction:
            self._write(transaction, note)

    async def _count_events(self, note: _Note, subject: Subject) -> bool:
        """Count events, and delete the messages of the deduplication that have their ids."""
        page = await self._eraser._warehouse.find_events(
            subject.workspace, self._persons, before=note.events_before, limit=PAGE_EVENTS
        )
        messages = {(each.connection_id, each.message_id) for each in map(_decode_message, page.documents)}
        note.events_before = page.cursor
        note.add("events", len(page.documents))
        await self._remove_messages(note, messages)
        return page.cursor is None

    async def _erase_events(self, note: _Note, subject: Subject) -> bool:
        if self._dry:
            return True
        step = await self._eraser._warehouse.erase(subject.workspace, self._persons, note.erasure_cursor)
        note.erasure_cursor = step.cursor
        if step.removed:
            async with self._transaction() as transaction:
                self._write(transaction, note)
        return step.cursor is None

    async def _erase_identities(self, note: _Note, subject: Subject) -> bool:
        async with self._transaction() as transaction:
            if note.after == 0:
                own, aliases = await transaction.run(lambda c: erasure.find_profiles(c, subject))
                note.subject = replace(subject, profiles=tuple(sorted(own.union(subject.profiles))))
                note.add("profiles", len(own))
                note.add("profile history", aliases)
            note.after = 1
            part = await transaction.run(
                lambda c: erasure.remove_identities(c, subject, self._eraser._updater, dry=self._dry)
            )
            note.add("identities", part.removed)
            self._write(transaction, note)
        return part.after is None

    async def _erase_profiles(self, note: _Note, subject: Subject) -> bool:
        """Wait until no profile has the identities, then delete what else names them."""
        async with self._transaction() as transaction:
            waits = not self._dry and await transaction.run(lambda c: erasure.has_members(c, subject))
            if not waits:
                removed = await transaction.run(lambda c: erasure.remove_traces_of_profiles(c, subject, dry=self._dry))
                note.add("profile history", removed)
                self._write(transaction, note)
        if waits:
            await self._wait("the profiles of the person were not resolved")
        return not waits

    async def _erase_devices_and_traits(self, note: _Note, subject: Subject) -> bool:
        connections = {each.id for each in self._eraser._catalog.connections(subject.workspace)}
        own = replace(subject, names=tuple(name for name in subject.names if name.connection in connections))
        async with self._transaction() as transaction:
            note.add("devices", await transaction.run(lambda c: erasure.remove_devices(c, own, dry=self._dry)))
            note.add("traits", await transaction.run(lambda c: erasure.remove_traits(c, own, dry=self._dry)))
            self._write(transaction, note)
        return True

    async def _erase_rejected(self, note: _Note, subject: Subject) -> bool:
        async with self._transaction() as transaction:
            part, messages = await transaction.run(
                lambda c: erasure.remove_rejected(c, subject, self._mentions, note.after, dry=self._dry)
            )
            if not self._dry:
                note.add("messages", await transaction.remove_messages(messages))
            note.add("rejected events", part.removed)
            note.after = part.after or 0
            self._write(transaction, note)
        return part.after is None

    async def _erase_lanes(self, note: _Note, subject: Subject) -> bool:
        persons = PersonSet(self._persons)
        async with self._transaction() as transaction:
            part, messages = await transaction.run(
                lambda c: erasure.remove_from_lanes(c, subject, persons.has, note.after, dry=self._dry)
            )
            if not self._dry:
                note.add("messages", await transaction.remove_messages(messages))
            note.add("lane entries", part.removed)
            note.after = part.after or 0
            self._write(transaction, note)
        return part.after is None

    async def _wait_for_lane_results(self, note: _Note, subject: Subject) -> bool:
        """Wait until the results that functions have returned so far are applied, and delete them."""
        store = self._eraser._store
        if store is None or self._dry:
            return True
        if note.after == 0:
            note.after = await store.last_sequence() + 1
        applied = await self._state.position(LANES)
        if applied + 1 < note.after:
            await self._wait("the results of functions were not applied")
            return False
        await store.trim(applied)
        return True

    async def _count_deliveries(self, note: _Note, subject: Subject) -> bool:
        if self._eraser._deliveries is None:
            return True
        step = await self._eraser._deliveries.erase(self._deliveries(subject), note.delivery_cursor, dry=True)
        note.add("deliveries", step.deliveries)
        note.add("dead letters", step.dead_letters)
        note.add("delivery messages", step.texts)
        note.delivery_cursor = step.cursor or (0, 0)
        await self._remove_messages(note, step.messages)
        return step.cursor is None

    async def _erase_deliveries(self, note: _Note, subject: Subject) -> bool:
        if self._eraser._deliveries is None or self._dry:
            return True
        step = await self._eraser._deliveries.erase(self._deliveries(subject), note.delivery_cursor)
        note.delivery_cursor = step.cursor or (0, 0)
        if step.cursor is None and note.removed.get("deliveries"):
            await asyncio.sleep(COURIER_SECONDS)
        return step.cursor is None

    async def _erase_errors(self, note: _Note, subject: Subject) -> bool:
        connections = self._eraser._catalog.connections(subject.workspace)
        pipelines = [pipeline.id for each in connections for pipeline in each.pipelines]
        errors, mentions, dry = tables.counts.errors, self._mentions, self._dry
        if self._eraser._store is not None:
            removed = await self._eraser._store.remove_errors(pipelines, mentions, dry=dry)
            note.add("pipeline errors", removed)
        async with self._transaction() as transaction:
            removed = await transaction.run(lambda c: erasure.remove_errors(c, errors, pipelines, mentions, dry=dry))
            note.add("pipeline errors", removed)
            self._write(transaction, note)
        return True

    async def _erase_operations(self, note: _Note, subject: Subject) -> bool:
        """Delete ended operations that name the person: splits, replays with a filter, and cancelled erasures."""
        removed, after = await self._eraser._operations.remove_selected(
            subject.workspace, lambda each: self._concerns(subject, each), after=note.after, dry=self._dry
        )
        note.add("operations", removed)
        note.after = after or 0
        async with self._transaction() as transaction:
            self._write(transaction, note)
        return after is None

    async def _erase_run_errors(self, note: _Note, subject: Subject) -> bool:
        """Delete the records of failed imports and exports with an id of the person, and errors that mention it."""
        after: int | None = None
        if self._eraser._runs is not None:
            removed, after = await self._eraser._runs.remove_mentions(
                subject.workspace, self._mentions, after=note.after, dry=self._dry
            )
            note.add("run errors", removed)
        note.after = after or 0
        async with self._transaction() as transaction:
            self._write(transaction, note)
        return after is None

    # --- Pieces -------------------------------------------------------------------------------------------------------

    async def _wait(self, reason: str) -> None:
        """Pause before the present step is repeated. Raises TimeoutError after `MAX_WAIT_SECONDS`."""
        now = asyncio.get_running_loop().time()
        self._waiting_until = self._waiting_until or now + MAX_WAIT_SECONDS
        if now > self._waiting_until:
            raise TimeoutError(reason)
        await asyncio.sleep(WAIT_SECONDS)

    def _concerns(self, subject: Subject, parameters: OperationParameters) -> bool:
        """Return whether the parameters of an operation name the person."""
        names = {(name.id, name.is_anonymous) for name in subject.names}
        match parameters:
            case SplitParameters(identities=identities):
                return any((each.identity_id, each.is_anonymous) in names for each in identities)
            case ErasureParameters(user_id=user_id, anonymous_id=anonymous_id):
                return (user_id, False) in names or (anonymous_id, True) in names
            case ReplayParameters(filter=str() as text):
                return self._mentions.are_in_text(text)
        return False

    def _deliveries(self, subject: Subject) -> DeliveryErasure:
        connections = self._eraser._catalog.connections(subject.workspace)
        return DeliveryErasure(
            subject.workspace,
            frozenset(each.id for each in connections),
            PersonSet(self._persons).has,
            self._mentions,
        )

    async def _remove_messages(self, note: _Note, messages: Collection[MessageKey]) -> None:
        """Delete messages, and store the note."""
        async with self._transaction() as transaction:
            if not self._dry:
                note.add("messages", await transaction.remove_messages(messages))
            self._write(transaction, note)

    def _write(self, transaction: Transaction, note: _Note) -> None:
        if not self._dry:
            encoded = _encode(note)
            transaction.write_later(lambda connection: erasure.write_note(connection, self._note_owner, encoded))

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction. If it fails, the suppressions are read again."""
        try:
            async with self._state.transaction() as transaction:
                yield transaction
        except BaseException:
            self._state.suppressions.forget()
            raise

    def _now(self) -> int:
        return microseconds(self._eraser._clock.now())


def _person(name: PersonName) -> Person:
    connection = None if name.connection == ANY_CONNECTION else name.connection
    if name.is_anonymous:
        return Person(connection=connection, anonymous_id=name.id)
    return Person(connection=connection, user_id=name.id)
