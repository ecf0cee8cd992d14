"""The profiles that an export has to write, in a temporary SQLite file.

An export first finds all of them, in one snapshot of the profiles, and then writes them. So the snapshot ends before
the first call of the destination, and a run needs the same memory for any number of profiles.
"""

import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from msgspec import Struct

_CACHE_KIB: Final = 16 * 1024
_BATCH_ROWS: Final = 1_000
_COLUMNS: Final = "profile, kpid, source, content, external_id, body, claim"


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


class Outbox:
    """The profiles to write, in the order of their ids. It belongs to one thread."""

    def __init__(self, folder: Path) -> None:
        self._connection = sqlite3.connect(folder / "outbox.db", isolation_level=None, check_same_thread=False)
        for pragma in ("journal_mode=OFF", "synchronous=OFF", f"cache_size=-{_CACHE_KIB}", "temp_store=FILE"):
            self._connection.execute(f"PRAGMA {pragma}")
        self._connection.execute(
            "CREATE TABLE due (profile INTEGER PRIMARY KEY, kpid BLOB, source BLOB, content BLOB, external_id TEXT, "
            "body BLOB, claim TEXT)"
        )
        self._connection.execute("CREATE TABLE claims (claim TEXT, profile INTEGER, kpid BLOB)")
        self._connection.execute("CREATE TABLE users (id TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        self._connection.execute("BEGIN")

    def close(self) -> None:
        """Close the file. The folder of the run is deleted with it."""
        self._connection.close()

    # Profiles to write

    def add(self, profiles: Iterable[DueProfile]) -> None:
        """Add profiles to write."""
        self._connection.executemany(
            f"INSERT INTO due ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [
                (each.profile, each.kpid, each.source, each.content, each.external_id, each.body, each.claim)
                for each in profiles
            ],
        )

    def read(self) -> Iterator[list[DueProfile]]:
        """Return the profiles to write, in batches. None may be added or removed in the meantime."""
        after = -1
        while rows := self._connection.execute(
            f"SELECT {_COLUMNS} FROM due WHERE profile > ? ORDER BY profile LIMIT {_BATCH_ROWS}", (after,)
        ).fetchall():
            after = rows[-1][0]
            yield [DueProfile(*row) for row in rows]

    def count(self) -> int:
        """Return the number of profiles to write."""
        found: int = self._connection.execute("SELECT count(*) FROM due").fetchone()[0]
        return found

    def remove(self, profiles: Iterable[int]) -> None:
        """Take profiles out, because they cannot be written."""
        self._connection.executemany("DELETE FROM due WHERE profile = ?", [(id_,) for id_ in profiles])

    # Claims

    def add_claims(self, claims: Iterable[tuple[str, int, bytes]]) -> None:
        """Add values that only one profile may have: value, profile, kpid."""
        self._connection.executemany("INSERT INTO claims VALUES (?, ?, ?)", claims)

    def index_claims(self) -> None:
        """Prepare the search for values that several profiles have. No claim may be added afterwards."""
        self._connection.execute("CREATE INDEX claims_by_claim ON claims (claim, profile)")

    def claimed(self, claims: Iterable[str]) -> set[str]:
        """Return those of the values that a profile has claimed."""
        search = "SELECT 1 FROM claims WHERE claim = ? LIMIT 1"
        return {claim for claim in claims if self._connection.execute(search, (claim,)).fetchone() is not None}

    def shared_claims(self) -> Iterator[list[tuple[str, int, bytes]]]:
        """Return the claims of values that several profiles have, those of one value together, oldest first."""
        shared = "SELECT claim FROM claims GROUP BY claim HAVING count(*) > 1"
        cursor = self._connection.execute(
            f"SELECT claim, profile, kpid FROM claims WHERE claim IN ({shared}) ORDER BY claim, profile"
        )
        while rows := cursor.fetchmany(_BATCH_ROWS):
            yield rows

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
