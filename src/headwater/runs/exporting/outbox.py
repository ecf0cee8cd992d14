"""The profiles that an export has to write, in a temporary SQLite file.

An export first finds all of them, in one snapshot of the profiles, and then writes them. So the snapshot ends before
the first call of the destination, and a run needs the same memory for any number of profiles.
"""

import sqlite3
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import astuple

from headwater.base.threads import SerialExecutor
from headwater.runs.exporting.blocking import open_thread
from headwater.runs.job import RunFailed

_CACHE_KIB: Final = 16 * 1024
_Result = TypeVar("_Result")
_COLUMNS: Final = "profile, kpid, source, content, external_id, body, claim, previous"


class DueProfile(Struct, frozen=True, gc=False):
    """A profile to write."""

    profile: int
    kpid: bytes
    source: bytes
    content: bytes
    external_id: str
    """The ids of the users to update, separated by newlines, or the key of the row; empty to create a user."""
    body: bytes
    """The output of the transformation."""
    claim: str
    """The value that only one profile may have: the key of the row, or the value by which users are found."""
    previous: bytes = b""
    """The content that the destination confirmed last; empty if it has none."""


PersonState = Literal["Due", "Unchanged", "Settled"]
"""Whether a profile is to be written, has been written by an earlier run, or was counted already."""


class Person(Struct, frozen=True, gc=False):
    """A profile, and the value by which it finds its users."""

    profile: int
    kpid: bytes
    value: str
    state: PersonState
    source: bytes


class Outbox:
    """The profiles to write, in the order of their ids. It belongs to one thread."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / "outbox.db", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(
            "CREATE TABLE due (profile INTEGER PRIMARY KEY, kpid BLOB, source BLOB, content BLOB, external_id TEXT, "
            "body BLOB, claim TEXT, previous BLOB)"
        )
        self._connection.execute(
            "CREATE TABLE people (profile INTEGER PRIMARY KEY, kpid BLOB, value TEXT, state TEXT, source BLOB)"
        )
        self._connection.execute("CREATE TABLE users (id TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._connection.execute("BEGIN")

    def close(self) -> None:
        """Close the file. The folder of the run is deleted with it."""
        self._connection.close()

    # Profiles to write

    def add(self, profiles: Iterable[DueProfile]) -> None:
        """Add profiles to write."""
        self._connection.executemany(
            f"INSERT INTO due ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            list(map(astuple, profiles)),
        )

    def read_after(self, profile: int, count: int) -> list[DueProfile]:
        """Return the next profiles to write in the order of their ids, at most `count`, after one."""
        query = f"SELECT {_COLUMNS} FROM due WHERE profile > ? ORDER BY profile LIMIT {count}"
        return [DueProfile(*row) for row in self._connection.execute(query, (profile,))]

    def count(self) -> int:
        """Return the number of profiles to write."""
        found: int = self._connection.execute("SELECT count(*) FROM due").fetchone()[0]
        return found

    def remove(self, profiles: Iterable[int]) -> None:
        """Take profiles out, because they cannot be written."""
        self._connection.executemany("DELETE FROM due WHERE profile = ?", [(id_,) for id_ in profiles])

    # Keys of rows

    def index_claims(self) -> None:
        """Prepare the searches for claims of profiles to write. None may be added afterwards."""
        self._connection.execute("CREATE INDEX due_by_claim ON due (claim, profile)")

    def claims_after(self, claim: str | None, count: int) -> list[str]:
        """Return the next claims in ascending order, at most `count`, after one; None for the first."""
        after = "" if claim is None else "WHERE claim > ?"
        query = f"SELECT DISTINCT claim FROM due {after} ORDER BY claim LIMIT {count}"
        return [found for (found,) in self._connection.execute(query, () if claim is None else (claim,))]

    def take_repeated(self, before: int, count: int) -> list[tuple[DueProfile, bytes]]:
        """Take out profiles with ids below `before` whose claim an older one has too, at most `count`. Return them, the
        newest first, each with the kpid of the oldest."""
        columns = ", ".join(f"d.{name}" for name in _COLUMNS.split(", "))
        rows = self._connection.execute(
            f"SELECT {columns}, (SELECT kpid FROM due f WHERE f.claim = d.claim ORDER BY f.profile LIMIT 1) "
            "FROM due d WHERE d.profile < ? AND EXISTS "
            "(SELECT 1 FROM due f WHERE f.claim = d.claim AND f.profile < d.profile) "
            f"ORDER BY d.profile DESC LIMIT {count}",
            (before,),
        ).fetchall()
        self.remove(row[0] for row in rows)
        return [(DueProfile(*row[:-1]), row[-1]) for row in rows]

    def take_claimed(self, owners: Iterable[tuple[int, bytes, str]]) -> list[tuple[DueProfile, bytes]]:
        """Take out profiles whose claim is that of one of the owners, given as profile, kpid and claim, unless the
        owner is to be written itself. Return each with the kpid of its owner."""
        taken: list[tuple[DueProfile, bytes]] = []
        for owner, kpid, claim in owners:
            if self._connection.execute("SELECT 1 FROM due WHERE profile = ?", (owner,)).fetchone() is None:
                rows = self._connection.execute(f"SELECT {_COLUMNS} FROM due WHERE claim = ?", (claim,)).fetchall()
                self.remove(row[0] for row in rows)
                taken += [(DueProfile(*row), kpid) for row in rows]
        return taken

    # Profiles, by the value that finds their users

    def add_people(self, people: Iterable[Person]) -> None:
        """Add profiles with the values that find their users."""
        self._connection.executemany(
            "INSERT INTO people (profile, kpid, value, state, source) VALUES (?, ?, ?, ?, ?)",
            [(each.profile, each.kpid, each.value, each.state, each.source) for each in people],
        )

    def index_people(self) -> None:
        """Prepare the search for profiles by their value. None may be added afterwards."""
        self._connection.execute("CREATE INDEX people_by_value ON people (value, profile)")

    def next_shared(self, value: str | None, count: int) -> list[Person]:
        """Return the oldest profiles, at most `count`, of the next value that several have, after a value."""
        after = "" if value is None else "WHERE value > ?"
        found = self._connection.execute(
            f"SELECT value FROM people {after} GROUP BY value HAVING count(*) > 1 ORDER BY value LIMIT 1",
            () if value is None else (value,),
        ).fetchone()
        return [] if found is None else self.people_after(found[0], -1, count)

    def people_after(self, value: str, profile: int, count: int) -> list[Person]:
        """Return the next profiles with a value in the order of their ids, at most `count`, after one."""
        query = (
            "SELECT profile, kpid, value, state, source FROM people WHERE value = ? AND profile > ? "
            f"ORDER BY profile LIMIT {count}"
        )
        return [Person(*row) for row in self._connection.execute(query, (value, profile))]

    # Users of the application

    def add_users(self, users: Iterable[tuple[str, str]]) -> None:
        """Add users of the application: id and the value by which they are found. A repeated user replaces itself."""
        self._connection.executemany("INSERT OR REPLACE INTO users VALUES (?, ?)", users)

    def index_users(self) -> None:
        """Prepare the search for users by their value. No user may be added afterwards."""
        self._connection.execute("CREATE INDEX users_by_value ON users (value, id)")

    def find_users(self, value: str) -> list[str]:
        """Return the ids of the users with a value, in their order."""
        found = self._connection.execute("SELECT id FROM users WHERE value = ? ORDER BY id", (value,))
        return [id_ for (id_,) in found]


class OutboxThread:
    """An outbox, and the thread in which it is used."""

    def __init__(self, thread: SerialExecutor, outbox: Outbox) -> None:
        self._thread = thread
        self._outbox = outbox

    async def run(self, work: Callable[[Outbox], _Result]) -> _Result:
        """Run `work` on the outbox. Raises RunFailed if the disk is full."""
        try:
            return await self._thread.run(lambda: work(self._outbox))
        except sqlite3.OperationalError as error:
            raise RunFailed(None, f"the temporary file of the export cannot be used: {error}") from error


@asynccontextmanager
async def open_outbox(folder: Path) -> AsyncIterator[OutboxThread]:
    """Yield an outbox in a folder, which is deleted with it by its owner."""
    async with open_thread("outbox") as thread:
        outbox = await thread.run(lambda: Outbox(folder))
        try:
            yield OutboxThread(thread, outbox)
        finally:
            await thread.run(outbox.close)
