"""The cost of exports: files of all profiles in order, what differs among a million, and rows in tables."""

import asyncio
import os
import random
import resource
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final
from urllib.parse import urlsplit

import asyncpg
import msgspec
from sqlalchemy import Connection, text

from headwater.base.clock import SystemClock
from headwater.catalog import Pipeline, TransformationDefinition
from headwater.connectors.catalogue.databases import PostgreSQLSettings, SQLiteSettings
from headwater.connectors.contract import ConnectorContext, Engine, StoredFile, TableSink
from headwater.connectors.databases.postgresql import PostgreSQLSink
from headwater.connectors.databases.sqlite import SQLiteSink
from headwater.schemas import BooleanType, DateTimeType, IntType, ObjectType, Property, StringType
from headwater.state import StateStore, bulk, open_state
from headwater.state.profiles import tables, values
from headwater.storage.database import sqlite_url
from tests import postgresql
from tests.runs.exporting.installation import WORKSPACE, Installation, connector, open_installation

PROFILES: Final = int(os.environ.get("HEADWATER_BENCH_EXPORTS", "1000000"))
CHANGED: Final = 100
"""One of so many profiles changes."""
BATCH: Final = 20_000
FIGURES: Final = ("parquet", "csv", "table", "1 % changed", "nothing changed")
SCHEMA: Final = ObjectType(
    tuple(
        Property(name, type_, read_optional=True)
        for name, type_ in (
            ("email", StringType()),
            ("first_name", StringType()),
            ("last_name", StringType()),
            ("age", IntType(32)),
            ("vip", BooleanType()),
            ("registered_at", DateTimeType()),
        )
    )
)
OUT: Final = ObjectType(
    (Property("email", StringType(), create_required=True), Property("name", StringType(), nullable=True))
)
MAPPING: Final = TransformationDefinition(mapping={"email": "email", "name": "first_name ' ' last_name"})


def exports(folder: Path, seconds: float) -> None:
    """Profiles/s to sorted files, seconds of a difference of 1 %, rows/s to tables, and the memory of a run."""
    folder.mkdir(parents=True)
    _run(folder / "sqlite", "")
    if not postgresql.missing():
        server = postgresql.PostgresqlServer()
        try:
            _run(folder / "postgresql", server.create())
        finally:
            server.close()


def _run(folder: Path, url: str) -> None:
    """Measure with one database, each figure in a process of its own, whose memory is measured too."""
    folder.mkdir()
    if not url:
        url = sqlite_url(folder / "state.db")
    for step in ("fill", *FIGURES):
        subprocess.run([sys.executable, "-m", "bench.exports", step, str(folder), url], check=True)


class LocalFiles:
    """A storage of files in a folder, without the checks of the real one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def absolute_path(self, name: str) -> str:
        return str(self.folder / name)

    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        raise NotImplementedError

    @contextmanager
    def create(self, name: str, content_type: str) -> Iterator[BinaryIO]:
        with (self.folder / name).open("wb") as file:
            yield file


async def _measure(folder: Path, url: str, figure: str) -> None:
    connectors = [
        connector("files", "FileStorage", Engine(file_storage=lambda settings, context: LocalFiles(folder))),
        connector("table", "Database", Engine(table_sink=_sinks(folder, url))),
    ]
    label = f"{'PostgreSQL' if url.startswith('postgresql') else 'SQLite'}, {figure}"
    (folder / figure).mkdir()
    async with open_installation(folder / figure, url, connectors, SCHEMA) as installation:
        before = _peak_mib()
        if figure in ("parquet", "csv"):
            settings = {"separator": ","} if figure == "csv" else None
            pipeline = await installation.add_pipeline(
                "files",
                id_=100 + FIGURES.index(figure),
                connection=1,
                in_schema=SCHEMA,
                format=figure,
                format_settings=settings,
                path=f"profiles.{figure}",
                order_by="email",
            )
            goal = "goal 100,000 profiles/s" if figure == "parquet" else ""
        else:
            if figure == "1 % changed":
                await _change(installation)
            pipeline = await installation.add_pipeline(
                "table",
                connection=2,
                in_schema=ObjectType(SCHEMA.properties[:3]),
                out_schema=OUT,
                transformation=MAPPING,
                table_name="people",
                table_key="email",
            )
            goal = "goal 5 s for 1,000,000" if figure == "1 % changed" else ""
        await _time(installation, pipeline, label, before, goal)


def _sinks(folder: Path, url: str) -> Callable[[Any, ConnectorContext], TableSink]:
    """Return a factory of sinks that write to a table in a database of the same kind."""
    create = "CREATE TABLE IF NOT EXISTS people (email TEXT PRIMARY KEY, name TEXT)"
    if url.startswith("postgresql"):
        parts = urlsplit(url)
        name = parts.path.removeprefix("/")
        settings = PostgreSQLSettings(
            host="127.0.0.1", port=parts.port or 0, username=postgresql.USER, password=postgresql.PASSWORD,
            database=name, schema="public",
        )  # fmt: skip
        return lambda _, context: PostgreSQLSink(settings, context)
    (folder / "files").mkdir(exist_ok=True)
    with closing(sqlite3.connect(folder / "files" / "table.db")) as database:
        database.execute(create)
    return lambda _, context: SQLiteSink(
        SQLiteSettings(path="table.db"), msgspec.structs.replace(context, filesystem_root=folder / "files")
    )


async def _time(installation: Installation, pipeline: Pipeline, label: str, before: float, goal: str) -> None:
    began, spent = time.perf_counter(), time.process_time()
    report = await installation.export(pipeline, run=time.time_ns() // 1_000_000)
    seconds, spent = time.perf_counter() - began, time.process_time() - spent
    progress = report.progress
    print(
        f"  {label}: {seconds:.2f} s, {spent:.2f} s of the processor, {PROFILES / seconds:,.0f} profiles/s "
        f"({PROFILES / spent:,.0f} per second of the processor), written {progress.passed[-1]:,}, failed "
        f"{sum(progress.failed):,}, memory {before:.0f} MiB before, {_peak_mib():.0f} MiB at most"
        + (f" ({goal})" if goal else ""),
        flush=True,
    )


async def _fill(url: str) -> None:
    """Write the profiles in the order of their ids, with random emails."""
    numbers = random.Random(1)
    async with open_state(url, writes=True, clock=SystemClock()) as state:
        for start in range(1, PROFILES + 1, BATCH):
            await _fill_batch(state, range(start, min(start + BATCH, PROFILES + 1)), numbers)


async def _fill_batch(state: StateStore, ids: range, numbers: random.Random) -> None:
    rows: list[Any] = []
    pairs: list[Any] = []
    for id_ in ids:
        attributes = _attributes(id_, numbers.randrange(10**12))
        rows.append((id_, WORKSPACE, id_.to_bytes(16), id_, id_, attributes, False, 1))
        pairs += [(key, id_, value) for key, value in values.read_values(WORKSPACE, attributes).items()]
    pairs.sort()

    def write(connection: Connection) -> None:
        bulk.insert(connection, list(tables.profiles.c), rows)
        bulk.insert(connection, list(tables.profile_values.c), pairs)

    async with state.transaction() as transaction:
        await transaction.run(write)


def _attributes(id_: int, number: int) -> str:
    return msgspec.json.encode(
        {
            "email": f"user{number}.{id_}@example.com",
            "first_name": "Ada",
            "last_name": f"Lovelace{number % 1_000}",
            "age": number % 90,
            "vip": number % 2 == 0,
            "registered_at": f"2026-03-05T10:00:{number % 60:02d}.500Z",
        }
    ).decode()


async def _change(installation: Installation) -> None:
    """Change the name of one in so many profiles."""
    change = text(
        "UPDATE profiles SET attributes = replace(attributes, '\"Ada\"', '\"Augusta\"'), version = 2 "
        "WHERE id % :every = 0"
    )
    async with installation.state.transaction() as transaction:
        await transaction.run(lambda connection: connection.execute(change, {"every": CHANGED}))


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def _create_table(url: str) -> None:
    database = await asyncpg.connect(url.replace("postgresql+asyncpg", "postgresql"))
    await database.execute("CREATE TABLE people (email TEXT PRIMARY KEY, name TEXT)")
    await database.close()


if __name__ == "__main__":
    step, folder_, url_ = sys.argv[1:]
    if step == "fill":
        if url_.startswith("postgresql"):
            asyncio.run(_create_table(url_))
        asyncio.run(_fill(url_))
    else:
        asyncio.run(_measure(Path(folder_), url_, step))
