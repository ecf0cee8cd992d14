"""The dummy's customers: ten initially, and those that were written, in a SQLite file; and generated ones.

The processes of a machine share the file. Without one, the customers are in memory.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Final

import msgspec

from headwater.base.clock import from_microseconds, microseconds
from headwater.base.errors import Unavailable
from headwater.connectors.contract import SourceUser, UserWrite
from headwater.schemas import Record

MAX_CUSTOMERS: Final = 100_000
BUSY_SECONDS: Final = 10.0
"""Time limit for the write of another process."""
_CREATED_AT: Final = datetime(2026, 1, 1, tzinfo=UTC)

# A position is that of the customer in the list of all, from 0. The key is that of the call that created the customer.
_TABLE: Final = """
CREATE TABLE IF NOT EXISTS customers (
    position INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    attributes BLOB NOT NULL,
    updated_at INTEGER NOT NULL,
    key TEXT UNIQUE
)
"""
_INSERT: Final = "INSERT INTO customers (position, id, attributes, updated_at, key) VALUES (?, ?, ?, ?, ?)"

_PEOPLE: Final = (
    ("Ada", "Lovelace", "tea", "Metropolis", ("12 St James's Square", "SW1Y 4JH", "London")),
    ("Alan", "Turing", "beer", None, ("78 High Street", "SK9 5AA", "Wilmslow")),
    ("Grace", "Hopper", "water", "Contact", ("1 Wall Street", "10005", "New York")),
    ("Katherine", "Johnson", "tea", "Hidden Figures", ("5 Dock Road", "23669", "Hampton")),
    ("Edsger", "Dijkstra", "wine", None, ("Plantage 3", "1018", "Amsterdam")),
    ("Margaret", "Hamilton", "water", "Apollo 13", None),
    ("Donald", "Knuth", None, "Fantasia", ("353 Serra Mall", "94305", "Stanford")),
    ("Barbara", "Liskov", "wine", None, ("32 Vassar Street", "02139", None)),
    ("Plato", None, "wine", None, ("Academy Grove", "10441", "Athens")),
    ("Hedy", "Lamarr", "water", "Algiers", ("Ring 17", "1010", "Vienna")),
)


class Customers:
    """The users of the application, in the order in which they were created.

    All calls block, and raise Unavailable if the file cannot be read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        """`path` is the file, which is created when it is first used; None keeps the customers in memory."""
        self._path = path
        self._memory = None if path else _open(":memory:")
        self._lock = Lock()

    def after(self, position: int, maximum: int) -> tuple[list[SourceUser], int]:
        """Return at most `maximum` customers from the one at `position`, and the number of those that follow them."""
        with self._transaction("BEGIN") as database:
            rows = database.execute(
                "SELECT id, attributes, updated_at FROM customers WHERE position >= ? ORDER BY position LIMIT ?",
                (position, maximum),
            ).fetchall()
            total = _count(database)
        page = [_read(*row) for row in rows]
        return page, max(0, total - position - len(page))

    def write(self, users: Sequence[UserWrite], now: datetime) -> list[str | None]:
        """Update customers, or create those whose id is empty, once for each key. Return their ids; None for each that
        does not exist.

        None is also returned when there are `MAX_CUSTOMERS` already.
        """
        with self._transaction("BEGIN IMMEDIATE") as database:
            return [_write(database, user, now) for user in users]

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        try:
            with self._lock, self._connect() as database, database:
                database.execute(begin)
                yield database
        except (sqlite3.Error, OSError) as error:
            raise Unavailable(f"the customers of the dummy cannot be read or written: {error}") from error

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        if self._memory is not None:
            yield self._memory
            return
        assert self._path is not None
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with closing(_open(str(self._path))) as database:
            yield database


def _open(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    try:
        if not database.execute("SELECT 1 FROM sqlite_master WHERE name = 'customers'").fetchone():
            with database:
                database.execute("BEGIN IMMEDIATE")
                _create_table(database)
    except BaseException:
        database.close()
        raise
    return database


def _create_table(database: sqlite3.Connection) -> None:
    """Create the table with the initial customers, unless another process has done so."""
    database.execute(_TABLE)
    if not _count(database):
        for number, person in enumerate(_PEOPLE, start=1):
            _insert(database, _user(number, *person), None)


def _count(database: sqlite3.Connection) -> int:
    """Return the number of customers. Positions have no gaps, because customers are never removed."""
    (count,) = database.execute("SELECT coalesce(max(position) + 1, 0) FROM customers").fetchone()
    return int(count)


def _write(database: sqlite3.Connection, user: UserWrite, now: datetime) -> str | None:
    condition, value = ("id = ?", user.id) if user.id else ("key = ?", user.key)
    row = database.execute(f"SELECT id, attributes FROM customers WHERE {condition}", (value,)).fetchone()
    if row is None:
        return None if user.id else _create(database, user, now)
    id_, attributes = row
    merged = {**msgspec.json.decode(attributes), **_readable(user.attributes)}
    database.execute(
        "UPDATE customers SET attributes = ?, updated_at = ? WHERE id = ?",
        (msgspec.json.encode(merged), microseconds(now), id_),
    )
    return str(id_)


def _create(database: sqlite3.Connection, user: UserWrite, now: datetime) -> str | None:
    count = _count(database)
    if count >= MAX_CUSTOMERS:
        return None
    id_ = f"dummy{count + 1}"
    record: Record = {**_EMPTY, **_readable(user.attributes), "dummyId": id_}
    _insert(database, SourceUser(id=id_, attributes=record, updated_at=now), user.key)
    return id_


def _insert(database: sqlite3.Connection, user: SourceUser, key: str | None) -> None:
    assert user.updated_at is not None
    attributes, updated_at = msgspec.json.encode(user.attributes), microseconds(user.updated_at)
    database.execute(_INSERT, (_count(database), user.id, attributes, updated_at, key))


def _read(id_: str, attributes: bytes, updated_at: int) -> SourceUser:
    return SourceUser(id=id_, attributes=msgspec.json.decode(attributes), updated_at=from_microseconds(updated_at))


def generate(number: int) -> SourceUser:
    """Return a generated customer. It is always the same for a number, which is 1 or more, and cannot be written."""
    first_name, last_name, drink, movie, address = _PEOPLE[number % len(_PEOPLE)]
    user = _user(number, first_name, last_name, drink, movie, address)
    id_ = f"generated{number}"
    attributes = {**user.attributes, "dummyId": id_, "email": f"{first_name.lower()}.{number}@example.com"}
    return SourceUser(id=id_, attributes=attributes, updated_at=_CREATED_AT + timedelta(seconds=number))


_EMPTY: Final[Record] = {
    "email": "",
    "firstName": "",
    "lastName": None,
    "fullName": "",
    "favouriteDrink": None,
    "address": None,
}


def _readable(attributes: Record) -> Record:
    """Return the attributes that can be read again."""
    return {name: value for name, value in attributes.items() if name != "additionalProperties"}


def _user(
    number: int,
    first_name: str,
    last_name: str | None,
    drink: str | None,
    movie: str | None,
    address: tuple[str, str, str | None] | None,
) -> SourceUser:
    record: Record = {
        "dummyId": f"dummy{number}",
        "email": f"{first_name.lower()}@example.com",
        "firstName": first_name,
        "lastName": last_name,
        "fullName": " ".join(filter(None, (first_name, last_name))),
        "favouriteDrink": drink,
        "address": None if address is None else dict(zip(("street", "postal_code", "city"), address, strict=True)),
    }
    if movie is not None:  # the only property that may be missing
        record["favourite_movie"] = movie
    return SourceUser(id=f"dummy{number}", attributes=record, updated_at=_CREATED_AT)
