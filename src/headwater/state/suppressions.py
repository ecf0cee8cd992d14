"""Suppressions: erased persons, as keyed digests, whose events the worker drops.

While an erasure runs, and for events that were accepted before its end, no event of the person has an effect. With
`suppress` this holds for all further events. The ids themselves are not stored.
"""

import secrets
from collections.abc import Collection, Iterable
from hashlib import blake2b
from typing import Final
from zlib import crc32

from msgspec import Struct
from sqlalchemy import Connection, delete, func, select, update

from headwater.state import bulk, tables

FOREVER: Final = 2**63 - 1
"""The position of a suppression that drops all events."""
ANY_CONNECTION: Final = 0
KEPT_MICROSECONDS: Final = 8 * 86_400_000_000
"""Time for which a suppression of accepted events is kept: lanes and the log may have such events for some days."""
_KEY_OWNER: Final = "suppression key"
_VERSION_OWNER: Final = "suppression version"
"""The owner of a checkpoint that each change of the suppressions replaces, for processes that only read them."""
_KEY_BYTES: Final = 32


class PersonName(Struct, frozen=True, array_like=True):
    """A person in one connection of a workspace."""

    connection: int
    """`ANY_CONNECTION` for all of the workspace."""
    id: str
    is_anonymous: bool


def dropped_events(connection: Connection, erasures: Collection[int]) -> dict[int, int]:
    """Return how many events each erasure has dropped. Erasures without suppressions are left out."""
    table = tables.suppressions.c
    query = select(table.erasure, func.sum(table.dropped)).where(table.erasure.in_(erasures)).group_by(table.erasure)
    return {erasure: int(dropped) for erasure, dropped in connection.execute(query)}


class Suppressions:
    """The suppressions in memory, for the process that writes them. Empty ones cost nothing.

    Other processes call `refresh` in each transaction.
    """

    def __init__(self) -> None:
        self._key = b""
        self._until: dict[tuple[int, bytes], int] = {}
        self._hashes: frozenset[int] = frozenset()
        self._is_read = False
        self._version = b""

    def __bool__(self) -> bool:
        return bool(self._until)

    def read(self, connection: Connection) -> None:
        """Read the suppressions from the database, unless they were read before."""
        if self._is_read:
            return
        self._reread(connection)
        self._is_read = True

    def refresh(self, connection: Connection) -> None:
        """Read the suppressions, unless no process has changed them since."""
        version = _read_checkpoint(connection, _VERSION_OWNER)
        if not self._is_read or version != self._version:
            self._reread(connection)
            self._is_read, self._version = True, version

    @property
    def is_read(self) -> bool:
        """Return whether they were read from the database."""
        return self._is_read

    def select(self, ids: Iterable[str | None]) -> set[str]:
        """Return those of the ids that may be of suppressed persons: one in 400,000 others with 10,000 of them."""
        hashes = self._hashes
        return {id for id in ids if id is not None and crc32(id.encode()) in hashes}

    def has(self, workspace: int, connection: int, position: int, id: str | None, *, is_anonymous: bool) -> bool:
        """Return whether an event at a position, of a person with this id, is dropped. 0.3 µs for most ids."""
        if id is None or crc32(id.encode()) not in self._hashes:
            return False
        for each in (connection, ANY_CONNECTION):
            key = workspace, self._digest(workspace, PersonName(each, id, is_anonymous))
            if position <= self._until.get(key, -1):
                return True
        return False

    def add(
        self, connection: Connection, workspace: int, names: Iterable[PersonName], *, erasure: int, now: int
    ) -> None:
        """Drop all events of persons until `end`, or for good without it.

        It replaces what earlier erasures of the persons said, and counts from 0.
        """
        self.read(connection)
        if not self._key:
            self._key = secrets.token_bytes(_KEY_BYTES)
            bulk.insert(connection, list(tables.checkpoints.c), [(_KEY_OWNER, self._key)])
        rows = {}
        for name in names:
            digest = self._digest(workspace, name)
            rows[digest] = (
                workspace, digest, crc32(name.id.encode()), FOREVER, erasure, now, 0
            )  # fmt: skip
        bulk.upsert(connection, list(tables.suppressions.c), list(rows.values()), key=("workspace", "digest"))
        self._changed(connection)

    def count(self, connection: Connection, workspace: int, names: Iterable[PersonName]) -> None:
        """Count dropped events: the ids of each, in its connection."""
        table = tables.suppressions
        numbers: dict[bytes, int] = {}
        for name in names:
            for each in (name.connection, ANY_CONNECTION):
                digest = self._digest(workspace, PersonName(each, name.id, name.is_anonymous))
                if (workspace, digest) in self._until:
                    numbers[digest] = numbers.get(digest, 0) + 1
                    break
        for digest, number in numbers.items():
            mine = update(table).where(table.c.workspace == workspace, table.c.digest == digest)
            connection.execute(mine.values(dropped=table.c.dropped + number))

    def end(self, connection: Connection, erasure: int, position: int) -> None:
        """Drop only the events of an erasure's persons at or before a position."""
        table = tables.suppressions
        connection.execute(update(table).where(table.c.erasure == erasure).values(until_position=position))
        self._changed(connection)

    def expire(self, connection: Connection, *, now: int) -> None:
        """Delete suppressions of accepted events that no store can have."""
        table = tables.suppressions
        old = (table.c.until_position < FOREVER, table.c.created_at < now - KEPT_MICROSECONDS)
        if connection.execute(delete(table).where(*old)).rowcount:
            self._changed(connection)

    def forget(self) -> None:
        """Read the suppressions again at the next use, because a transaction was rolled back."""
        self._is_read = False

    def _changed(self, connection: Connection) -> None:
        version = secrets.token_bytes(8)
        bulk.upsert(connection, list(tables.checkpoints.c), [(_VERSION_OWNER, version)], key=("owner",))
        self._reread(connection)

    def _reread(self, connection: Connection) -> None:
        table = tables.suppressions.c
        rows = connection.execute(select(table.workspace, table.digest, table.hash, table.until_position)).all()
        self._until = {(row.workspace, row.digest): row.until_position for row in rows}
        self._hashes = frozenset(row.hash for row in rows)
        self._key = _read_checkpoint(connection, _KEY_OWNER) or self._key

    def _digest(self, workspace: int, name: PersonName) -> bytes:
        text = f"{workspace}/{name.connection}/{int(name.is_anonymous)}/{name.id}"
        return blake2b(text.encode(), key=self._key, digest_size=16).digest()


def _read_checkpoint(connection: Connection, owner: str) -> bytes:
    table = tables.checkpoints.c
    return connection.scalar(select(table.value).where(table.owner == owner)) or b""
