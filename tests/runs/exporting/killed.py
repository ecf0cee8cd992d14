"""A process that executes one attempt of an export, and is killed at a point of it.

The destinations are in the folder of the installation, so they outlive the process.
"""

import asyncio
import functools
import os
import signal
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from headwater.catalog import Pipeline, TransformationDefinition
from headwater.catalog.definition import Matching
from headwater.connectors.catalogue.databases import SQLiteSettings
from headwater.connectors.connector import Connector
from headwater.connectors.contract import (
    BatchLimits,
    Engine,
    ItemResult,
    Outcome,
    RateLimit,
    SourceUser,
    StoredFile,
    UsersPage,
    UserWrite,
)
from headwater.connectors.databases.sqlite import SQLiteSink
from headwater.runs.exporting import execute_export, files, tables
from headwater.runs.exporting.recording import Recorder
from headwater.runs.job import Report
from headwater.schemas import ObjectType, Property, Schema, StringType
from headwater.state.profiles import exporting
from tests.runs.exporting.installation import Installation, connector, counts, open_installation

OUT: Final = ObjectType(
    (Property("email", StringType(), create_required=True), Property("name", StringType(), nullable=True))
)
USERS: Final[Schema] = ObjectType((Property("email", StringType()), Property("name", StringType(), nullable=True)))
RUN: Final = 77


class Points:
    """Counts the points of an attempt, and kills the process at one of them; 0 for none."""

    def __init__(self, deadly: int) -> None:
        self.left = deadly

    def reach(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, owner: Any, name: str) -> None:
        """Make a point before and after each call of a coroutine function."""
        original = getattr(owner, name)

        @functools.wraps(original)
        async def call(*arguments: Any, **named: Any) -> Any:
            self.reach()
            result = await original(*arguments, **named)
            self.reach()
            return result

        setattr(owner, name, call)


class Table(SQLiteSink):
    """A table in a file."""

    points: Points

    def upsert(self, write: Any, rows: Any) -> Sequence[ItemResult]:
        self.points.reach()
        results = super().upsert(write, rows)
        self.points.reach()
        return results


class Files:
    """A folder in which files appear complete."""

    def __init__(self, folder: Path, points: Points) -> None:
        self._folder = folder
        self._points = points

    def absolute_path(self, name: str) -> str:
        return str(self._folder / name)

    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        with (self._folder / name).open("rb") as file:
            yield StoredFile(stream=file)

    @contextmanager
    def create(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        partial = self._folder / f".{name}"
        with partial.open("wb") as file:
            self._points.reach()
            yield file
            self._points.reach()
        partial.rename(self._folder / name)
        self._points.reach()


class Application:
    """Users in a SQLite file. It counts how often each was written."""

    write_limits = BatchLimits(max_events=4)
    write_rates: tuple[RateLimit, ...] = ()

    def __init__(self, path: Path, points: Points) -> None:
        self._path = path
        self._points = points
        with closing(sqlite3.connect(path)) as database, database:
            database.execute(
                "CREATE TABLE IF NOT EXISTS users (id INTEGER PRIMARY KEY, email TEXT, name TEXT, key TEXT, writes INT)"
            )

    async def readable_schema(self) -> Schema:
        return USERS

    async def writable_schema(self) -> Schema:
        return USERS

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        with closing(sqlite3.connect(self._path)) as database:
            rows = database.execute("SELECT id, email, name FROM users").fetchall()
        return UsersPage(
            users=tuple(
                SourceUser(id=str(id_), attributes={"email": email, "name": name}) for id_, email, name in rows
            ),
            cursor="",
        )

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        self._points.reach()
        with closing(sqlite3.connect(self._path)) as database, database:
            results = [self._write(database, user) for user in users]
        self._points.reach()
        return results

    def _write(self, database: sqlite3.Connection, user: UserWrite) -> ItemResult:
        values = user.attributes.get("email"), user.attributes.get("name")
        found = database.execute("SELECT id FROM users WHERE key = ? OR id = ?", (user.key, user.id)).fetchone()
        if found is None:
            insert = "INSERT INTO users (email, name, key, writes) VALUES (?, ?, ?, 1)"
            id_ = database.execute(insert, (*values, user.key)).lastrowid
        else:
            [id_] = found
            database.execute("UPDATE users SET name = ?, writes = writes + 1 WHERE id = ?", (values[1], id_))
        return ItemResult(outcome=Outcome.DELIVERED, id=str(id_))


def connectors(folder: Path, points: Points) -> list[Connector]:
    """Return the destinations in a folder."""
    Table.points = points
    (folder / "files").mkdir(exist_ok=True)
    with closing(sqlite3.connect(folder / "files" / "table.db")) as database:
        database.execute("CREATE TABLE IF NOT EXISTS people (email TEXT PRIMARY KEY, name TEXT)")

    def table(_: object, context: Any) -> Table:
        return Table(
            SQLiteSettings(path="table.db"), msgspec.structs.replace(context, filesystem_root=folder / "files")
        )

    make: dict[str, Callable[[Any, Any], Any]] = {
        "storage": lambda settings, context: Files(folder / "files", points),
        "app": lambda settings, context: Application(folder / "app.db", points),
    }
    return [
        connector("table", "Database", Engine(table_sink=table)),
        connector("storage", "FileStorage", Engine(file_storage=make["storage"])),
        connector("app", "Application", Engine(user_source=make["app"], user_sink=make["app"])),
    ]


async def add_pipeline(installation: Installation, kind: str) -> Pipeline:
    """Add the pipeline of a kind of destination."""
    mapped = {"out_schema": OUT, "transformation": TransformationDefinition(mapping={"email": "email", "name": "name"})}
    members: dict[str, dict[str, Any]] = {
        "table": {**mapped, "table_name": "people", "table_key": "email"},
        "storage": {"format": "csv", "format_settings": {"separator": ","}, "path": "people.csv", "order_by": "email"},
        "app": {
            "out_schema": USERS,
            "transformation": TransformationDefinition(mapping={"name": "name"}),
            "matching": Matching("email", "email"),
            "export_mode": "CreateOrUpdate",
        },
    }
    return await installation.add_pipeline(kind, **members[kind])


async def attempt(folder: Path, url: str, kind: str, fence: int, deadly: int) -> None:
    """Execute one attempt of the run, and print its counts."""
    points = Points(deadly)
    tables.MAX_ROWS = 4  # type: ignore[misc]  # so that there are several batches
    exporting.RowStream.read.__defaults__ = (5,)
    points.around(exporting.RowStream, "read")
    points.around(Recorder, "_write")
    original = files._write_rows

    def write_rows(*arguments: Any) -> None:
        original(*arguments)
        points.reach()

    setattr(files, "_write_rows", write_rows)  # noqa: B010  # mypy compares the signatures
    async with open_installation(folder, url, connectors(folder, points)) as installation:
        pipeline = await add_pipeline(installation, kind)
        stored = await installation.state.run_progress(RUN)
        report = Report() if stored is None else Report(stored.progress)
        await execute_export(installation.job(pipeline, run=RUN, fence=fence, report=report))
        print(msgspec.json.encode(counts(report)).decode())


def main(folder: str, url: str, kind: str, fence: str, deadly: str) -> None:
    asyncio.run(attempt(Path(folder), url, kind, int(fence), int(deadly)))
