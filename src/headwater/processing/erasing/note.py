"""The note of an erasure: its progress, which the state store has until the erasure has ended."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import msgspec
from msgspec import Struct

from headwater.state import StateStore, Transaction, erasure
from headwater.state.erasure import Subject
from headwater.state.operations import OperationStore
from headwater.warehouse import ErasureCursor, EventCursor

_OWNER: Final = "erasure "
"""Begins the owner of a note, before the id of the operation."""


class Note(Struct, omit_defaults=True):
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
_decode: Final = msgspec.msgpack.Decoder(Note).decode


class NoteStore:
    """Stores the note of one erasure. An erasure that only counts has no note, and writes none."""

    def __init__(self, state: StateStore, operation: int, *, is_dry: bool) -> None:
        self._state = state
        self._owner = f"{_OWNER}{operation}"
        self._is_dry = is_dry

    async def read(self) -> Note | None:
        """Return the stored note; None if there is none."""
        if self._is_dry:
            return None
        async with self.transaction() as transaction:
            stored = await transaction.run(lambda connection: erasure.read_note(connection, self._owner))
        return None if stored is None else _decode(stored)

    def write(self, transaction: Transaction, note: Note) -> None:
        """Store the note in a transaction."""
        if not self._is_dry:
            encoded = _encode(note)
            transaction.write_later(lambda connection: erasure.write_note(connection, self._owner, encoded))

    async def remove(self) -> None:
        """Delete the note."""
        if not self._is_dry:
            async with self.transaction() as transaction:
                await transaction.run(lambda connection: erasure.remove_note(connection, self._owner))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Open a transaction. If it fails, the suppressions are read again."""
        try:
            async with self._state.transaction() as transaction:
                yield transaction
        except BaseException:
            self._state.suppressions.forget()
            raise


async def remove_ended_notes(state: StateStore, operations: OperationStore) -> None:
    """Delete the notes of erasures that have ended, or were deleted with their workspace."""
    async with state.transaction() as transaction:
        owners = await transaction.run(lambda connection: erasure.note_owners(connection, _OWNER))
    for owner in owners:
        found = await operations.find(int(owner.removeprefix(_OWNER)))
        if found is None or found.ended_at is not None:
            async with state.transaction() as transaction:
                await transaction.run(partial(erasure.remove_note, owner=owner))
