"""The execution of one erasure: it suppresses the person, goes through the stages, and writes the receipt."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from hashlib import blake2b
from typing import Final
from uuid import UUID

import msgspec
import structlog
from msgspec.structs import replace

from headwater.base.clock import microseconds
from headwater.base.errors import Unavailable
from headwater.base.waiting import wait
from headwater.processing.erasing.note import Note, NoteStore
from headwater.processing.erasing.stages import Stages
from headwater.processing.erasing.stores import Stores
from headwater.state import Transaction, erasure
from headwater.state.erasure import Subject
from headwater.state.operations import ErasedStore, ErasureParameters, ErasureReceipt, Operation, OperationStatus
from headwater.state.profiles.model import IdentityName
from headwater.state.suppressions import ANY_CONNECTION, PersonName

WAIT_SECONDS: Final = 0.5
"""Interval at which a reader of a file is waited for."""
MAX_OVERWRITING_SECONDS: Final = 600.0
"""Time after which an erasure ends although a reader still uses former versions of pages, or files are not done."""

_log = structlog.get_logger(__name__)


class Erasure:
    """The execution of one erasure."""

    def __init__(self, stores: Stores, operation: Operation, owner: str) -> None:
        """`owner` has the lease of the operation."""
        assert isinstance(operation.parameters, ErasureParameters)
        self._stores = stores
        self._operation = operation
        self._owner = owner
        self._parameters = operation.parameters
        self._is_dry = operation.parameters.validate_only
        self._state = stores.state
        self._notes = NoteStore(stores.state, operation.id, is_dry=self._is_dry)
        self._stages = Stages(stores, self._notes, is_dry=self._is_dry)

    async def run(self, stop: asyncio.Event) -> None:
        """Erase to the end, or until `stop` is set. Raises Unavailable, and TimeoutError if a stage waits too long."""
        while not self._is_dry and await self._stages.must_wait(self._operation.workspace):
            if stop.is_set():
                await self._stores.operations.release(self._operation.id, self._owner)
                return
            if await self._advance(Note(self._stages.first)):
                await self._finish("Cancelled")
                return
        note = await self._begin()
        while note.subject is not None:
            if stop.is_set():
                await self._stores.operations.release(self._operation.id, self._owner)
                return
            if await self._advance(note):
                await self._end(note)
                await self._let_in(note)
                await self._finish("Cancelled")
                await self._notes.remove()
                return
            if await self._stages.step(note, note.subject):
                await self._end(note)
        await self._complete(note, stop)

    async def fail(self, reason: str) -> None:
        """End the operation after a failure. Raises Unavailable."""
        await self._give_up()
        await self._finish("Failed", reason)
        await self._notes.remove()

    async def _finish(self, status: OperationStatus, error: str = "") -> None:
        operations, operation = self._stores.operations, self._operation
        await operations.replace_parameters(operation.id, self._owner, redacted(operation.parameters))
        await operations.finish(operation.id, self._owner, status, error)

    async def _give_up(self) -> None:
        """Forget the person after a failure, but for the note: the person's further events have effects again."""
        try:
            note = Note("failed")
            await self._end(note)
            await self._let_in(note)
        except Unavailable:
            raise
        except Exception:
            _log.exception("a failed erasure still drops the events of its person", operation=self._operation.id)

    async def _advance(self, note: Note) -> bool:
        return await self._stores.operations.advance(
            self._operation.id, self._owner, done=sum(note.removed.values()), enqueued=0, total=None
        )

    async def _begin(self) -> Note:
        """Return the stored note, or find the person, suppress it, and store a new note."""
        stored = await self._notes.read()
        if stored is not None:
            if stored.subject is not None:
                self._stages.know(stored.subject)
            return stored
        await self._stores.catalog.refresh()
        async with self._notes.transaction() as transaction:
            subject = await self._find(transaction)
            note = Note(self._stages.first, subject)
            if not self._is_dry:
                now, suppressions = self._now(), self._state.suppressions
                await transaction.run(
                    lambda connection: suppressions.add(
                        connection, subject.workspace, subject.names, erasure=self._operation.id, now=now
                    )
                )
                self._notes.write(transaction, note)
        self._stages.know(subject)
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
        connections = [each.id for each in self._stores.catalog.connections(workspace)] if only is None else [only]
        names = [IdentityName(connection, id, is_anonymous) for connection in connections]
        subject = await transaction.run(lambda connection: erasure.find_names(connection, workspace, names))
        if only is not None:
            return subject
        return replace(subject, names=(PersonName(ANY_CONNECTION, id, is_anonymous), *subject.names))

    async def _end(self, note: Note) -> None:
        """Forget the person."""
        note.subject, note.stage = None, "overwrite"
        if not self._is_dry:
            async with self._notes.transaction() as transaction:
                self._notes.write(transaction, note)

    async def _let_in(self, note: Note) -> None:
        """Let the person's events in again, unless it is suppressed. Those accepted until now have no effect."""
        if note.stage == "finish":
            return
        last = await self._stores.log.last_position()
        note.stage, note.log_position = "finish", last
        if note.removed:
            note.log_until = self._now() + self._stores.keep // timedelta(microseconds=1)
        if self._is_dry:
            return
        suppressions = self._state.suppressions
        async with self._notes.transaction() as transaction:
            if not self._parameters.suppress:
                await transaction.run(lambda connection: suppressions.end(connection, self._operation.id, last))
            self._notes.write(transaction, note)

    async def _complete(self, note: Note, stop: asyncio.Event) -> None:
        """Overwrite what is left in files, and end the operation, unless `stop` is set before."""
        stores, operation = self._stores, self._operation
        await stores.operations.replace_parameters(operation.id, self._owner, redacted(operation.parameters))
        if not self._is_dry:
            overwrites: list[Callable[[], Awaitable[bool]]] = [stores.operations.overwrite_removed]
            if note.removed:
                overwrites += [self._state.overwrite_removed, stores.warehouse.overwrite_removed]
                others = (stores.deliveries, stores.lanes, stores.runs)
                overwrites += [each.overwrite_removed for each in others if each is not None]
            else:
                overwrites.append(self._state.overwrite_removed)
            await self._overwrite(overwrites, stop)
            if stop.is_set():
                await stores.operations.release(operation.id, self._owner)
                return
        await self._let_in(note)
        receipt = ErasureReceipt(
            stores=tuple(ErasedStore(store, number) for store, number in sorted(note.removed.items())),
            log_position=note.log_position,
            log_until=note.log_until,
        )
        await stores.operations.finish(
            operation.id, self._owner, "Completed", result=msgspec.json.encode(receipt).decode()
        )
        await self._notes.remove()

    async def _overwrite(self, overwrites: Sequence[Callable[[], Awaitable[bool]]], stop: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + MAX_OVERWRITING_SECONDS
        for overwrite in overwrites:
            while not stop.is_set() and not await overwrite():
                if loop.time() > end:
                    _log.warning("copies of erased data may be left in a file", operation=self._operation.id)
                    return
                await wait(stop, WAIT_SECONDS)

    def _now(self) -> int:
        return microseconds(self._stores.clock.now())


def redacted(parameters: object) -> ErasureParameters:
    """Return the parameters of an erasure with a digest in the place of the person's ids."""
    assert isinstance(parameters, ErasureParameters)
    if parameters.digest:
        return parameters
    named = msgspec.json.encode(replace(parameters, suppress=False, validate_only=False))
    digest = blake2b(named, digest_size=16).hexdigest()
    return replace(parameters, user_id=None, anonymous_id=None, digest=digest)
