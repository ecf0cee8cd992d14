"""The stages of an erasure: each counts and deletes what one store has of the person, in steps."""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from typing import Final

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from headwater.base.mentions import Mentions
from headwater.processing.erasing.note import Note, NoteStore
from headwater.processing.erasing.stores import Stores
from headwater.processing.lanes import CONSUMER as LANES
from headwater.state import MessageKey, erasure, tables
from headwater.state.deliveries import DeliveryErasure
from headwater.state.erasure import Subject
from headwater.state.operations import (
    DELIVERY_KINDS,
    ErasureParameters,
    OperationParameters,
    ReplayParameters,
    SplitParameters,
)
from headwater.state.suppressions import ANY_CONNECTION, PersonName
from headwater.warehouse import Person, PersonSet

COURIER_SECONDS: Final = 1.0
"""Time in which the courier notices that deliveries were erased, and drops those that it holds in memory."""
WAIT_SECONDS: Final = 0.5
"""Interval at which a stage repeats a step that waits."""
MAX_WAIT_SECONDS: Final = 3_600.0
"""Time after which an erasure that waits for a resolution, or for results of functions, fails."""
PAGE_EVENTS: Final = 500
"""Number of events that are counted in one step."""


class _Identified(Struct, rename="camel"):
    connection_id: int
    message_id: str


_decode_message: Final = msgspec.json.Decoder(_Identified).decode


class Stages:
    """The stages of one erasure, each of which empties one store in steps.

    Most steps write the note in the transaction in which they delete.
    """

    def __init__(self, stores: Stores, notes: NoteStore, *, is_dry: bool) -> None:
        """If `is_dry`, count only."""
        self._stores = stores
        self._notes = notes
        self._is_dry = is_dry
        self._stages: dict[str, Callable[[Note, Subject], Awaitable[bool]]] = {
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

    @property
    def first(self) -> str:
        """Return the name of the first stage."""
        return next(iter(self._stages))

    def know(self, subject: Subject) -> None:
        """Take the person that is erased."""
        self._mentions = subject.mentions()
        self._persons = [_person(name) for name in subject.names]

    async def step(self, note: Note, subject: Subject) -> bool:
        """Do one step of the present stage; at its end begin the next one. Return whether the last one has ended."""
        if not await self._stages[note.stage](note, subject):
            return False
        names = list(self._stages)
        following = names.index(note.stage) + 1
        if following == len(names):
            return True
        note.stage, note.after = names[following], 0
        self._waiting_until = 0.0
        async with self._notes.transaction() as transaction:
            self._notes.write(transaction, note)
        return False

    # --- Stages -------------------------------------------------------------------------------------------------------

    async def _count_events(self, note: Note, subject: Subject) -> bool:
        """Count events, and delete the messages of the deduplication that have their ids."""
        page = await self._stores.warehouse.find_events(
            subject.workspace, self._persons, before=note.events_before, limit=PAGE_EVENTS
        )
        messages = {(each.connection_id, each.message_id) for each in map(_decode_message, page.documents)}
        note.events_before = page.cursor
        note.add("events", len(page.documents))
        await self._remove_messages(note, messages)
        return page.cursor is None

    async def _erase_events(self, note: Note, subject: Subject) -> bool:
        if self._is_dry:
            return True
        step = await self._stores.warehouse.erase(subject.workspace, self._persons, note.erasure_cursor)
        note.erasure_cursor = step.cursor
        if step.removed:
            async with self._notes.transaction() as transaction:
                self._notes.write(transaction, note)
        return step.cursor is None

    async def _erase_identities(self, note: Note, subject: Subject) -> bool:
        async with self._notes.transaction() as transaction:
            if note.after == 0:
                own, history = await transaction.run(lambda c: erasure.find_profiles(c, subject))
                note.subject = replace(subject, profiles=tuple(sorted(own.union(subject.profiles))))
                note.add("profiles", len(own))
                note.add("profile history", history)
            note.after = 1
            part = await transaction.run(
                lambda c: erasure.remove_identities(c, subject, self._stores.updater, dry=self._is_dry)
            )
            note.add("identities", part.removed)
            self._notes.write(transaction, note)
        return part.after is None

    async def _erase_profiles(self, note: Note, subject: Subject) -> bool:
        """Wait until no profile has the identities, then delete what else names them."""
        async with self._notes.transaction() as transaction:
            waits = not self._is_dry and await transaction.run(lambda c: erasure.has_members(c, subject))
            if not waits:
                removed = await transaction.run(
                    lambda c: erasure.remove_traces_of_profiles(c, subject, dry=self._is_dry)
                )
                note.add("profile history", removed)
                self._notes.write(transaction, note)
        if waits:
            await self._wait("the profiles of the person were not resolved")
        return not waits

    async def _erase_devices_and_traits(self, note: Note, subject: Subject) -> bool:
        connections = {each.id for each in self._stores.catalog.connections(subject.workspace)}
        own = replace(subject, names=tuple(name for name in subject.names if name.connection in connections))
        async with self._notes.transaction() as transaction:
            note.add("devices", await transaction.run(lambda c: erasure.remove_devices(c, own, dry=self._is_dry)))
            note.add("traits", await transaction.run(lambda c: erasure.remove_traits(c, own, dry=self._is_dry)))
            self._notes.write(transaction, note)
        return True

    async def _erase_rejected(self, note: Note, subject: Subject) -> bool:
        async with self._notes.transaction() as transaction:
            part, messages = await transaction.run(
                lambda c: erasure.remove_rejected(c, subject, self._mentions, note.after, dry=self._is_dry)
            )
            if not self._is_dry:
                note.add("messages", await transaction.remove_messages(messages))
            note.add("rejected events", part.removed)
            note.after = part.after or 0
            self._notes.write(transaction, note)
        return part.after is None

    async def _erase_lanes(self, note: Note, subject: Subject) -> bool:
        persons = PersonSet(self._persons)
        async with self._notes.transaction() as transaction:
            part, messages = await transaction.run(
                lambda c: erasure.remove_from_lanes(c, subject, persons.has, note.after, dry=self._is_dry)
            )
            if not self._is_dry:
                note.add("messages", await transaction.remove_messages(messages))
            note.add("lane entries", part.removed)
            note.after = part.after or 0
            self._notes.write(transaction, note)
        return part.after is None

    async def _wait_for_lane_results(self, note: Note, subject: Subject) -> bool:
        """Wait until the results that functions have returned so far are applied, and delete them."""
        store = self._stores.lanes
        if store is None or self._is_dry:
            return True
        if note.after == 0:
            note.after = await store.last_sequence() + 1
        applied = await self._stores.state.position(LANES)
        if applied + 1 < note.after:
            await self._wait("the results of functions were not applied")
            return False
        await store.trim(applied)
        return True

    async def _count_deliveries(self, note: Note, subject: Subject) -> bool:
        if self._stores.deliveries is None:
            return True
        step = await self._stores.deliveries.erase(self._deliveries(subject), note.delivery_cursor, dry=True)
        note.add("deliveries", step.deliveries)
        note.add("dead letters", step.dead_letters)
        note.add("delivery messages", step.texts)
        note.delivery_cursor = step.cursor or (0, 0)
        await self._remove_messages(note, step.messages)
        return step.cursor is None

    async def _erase_deliveries(self, note: Note, subject: Subject) -> bool:
        if self._stores.deliveries is None or self._is_dry:
            return True
        step = await self._stores.deliveries.erase(self._deliveries(subject), note.delivery_cursor)
        note.delivery_cursor = step.cursor or (0, 0)
        if step.cursor is None and note.removed.get("deliveries"):
            await asyncio.sleep(COURIER_SECONDS)
        return step.cursor is None

    async def _erase_errors(self, note: Note, subject: Subject) -> bool:
        connections = self._stores.catalog.connections(subject.workspace)
        pipelines = [pipeline.id for each in connections for pipeline in each.pipelines]
        errors, mentions, dry = tables.counts.errors, self._mentions, self._is_dry
        if self._stores.lanes is not None:
            removed = await self._stores.lanes.remove_errors(pipelines, mentions, dry=dry)
            note.add("pipeline errors", removed)
        async with self._notes.transaction() as transaction:
            removed = await transaction.run(lambda c: erasure.remove_errors(c, errors, pipelines, mentions, dry=dry))
            note.add("pipeline errors", removed)
            self._notes.write(transaction, note)
        return True

    async def _erase_operations(self, note: Note, subject: Subject) -> bool:
        """Delete ended operations that name the person: splits, replays with a filter, and cancelled erasures."""
        removed, after = await self._stores.operations.remove_selected(
            subject.workspace, lambda each: self._concerns(subject, each), after=note.after, dry=self._is_dry
        )
        note.add("operations", removed)
        note.after = after or 0
        async with self._notes.transaction() as transaction:
            self._notes.write(transaction, note)
        return after is None

    async def _erase_run_errors(self, note: Note, subject: Subject) -> bool:
        """Delete the records of failed imports and exports with an id of the person, and errors that mention it."""
        after: int | None = None
        if self._stores.runs is not None:
            removed, after = await self._stores.runs.remove_mentions(
                subject.workspace, self._mentions, after=note.after, dry=self._is_dry
            )
            note.add("run errors", removed)
        note.after = after or 0
        async with self._notes.transaction() as transaction:
            self._notes.write(transaction, note)
        return after is None

    # --- Pieces -------------------------------------------------------------------------------------------------------

    async def must_wait(self, workspace: int) -> bool:
        """Return whether the erasure cannot begin yet, after a pause in that case: profiles of the workspace may lack
        members, or a step of a re-send or a replay has read events. Raises TimeoutError after `MAX_WAIT_SECONDS`."""
        if await self._stores.state.read(lambda connection: erasure.lacks_members(connection, workspace)):
            await self._wait("the profiles of the workspace were not resolved")
            return True
        if await self._stores.operations.is_executing(workspace, DELIVERY_KINDS):
            await self._wait("a re-send or a replay did not pause")
            return True
        return False

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
        connections = self._stores.catalog.connections(subject.workspace)
        return DeliveryErasure(
            subject.workspace,
            frozenset(each.id for each in connections),
            PersonSet(self._persons).has,
            self._mentions,
        )

    async def _remove_messages(self, note: Note, messages: Collection[MessageKey]) -> None:
        """Delete messages, and store the note."""
        async with self._notes.transaction() as transaction:
            if not self._is_dry:
                note.add("messages", await transaction.remove_messages(messages))
            self._notes.write(transaction, note)


def _person(name: PersonName) -> Person:
    connection = None if name.connection == ANY_CONNECTION else name.connection
    if name.is_anonymous:
        return Person(connection=connection, anonymous_id=name.id)
    return Person(connection=connection, user_id=name.id)
