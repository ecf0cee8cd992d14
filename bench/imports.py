"""Imports of a CSV file and of a table of PostgreSQL: rows read, mapped to six properties, and stored as identities.

The baseline reads the same file with the `csv` module, and inserts its rows with `executemany` into a table of SQLite
with one index, in transactions of the same size.
"""

import asyncio
import csv
import gc
import random
import sqlite3
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
import httpx
import msgspec

from bench.load import Plan, measure
from bench.running import memory, running
from headwater.catalog import Definition, TransformationDefinition
from headwater.connectors.addresses import ANY_ADDRESS
from headwater.connectors.catalogue.databases import PostgreSQLSettings
from headwater.connectors.contract import StoredFile
from headwater.connectors.databases.postgresql import PostgreSQLSource
from headwater.runs.importing import execute_import
from headwater.runs.importing.records import TRANSACTION_ROWS
from headwater.schemas import BooleanType, DateType, IntType, ObjectType, Property, StringType, serialise
from headwater.server.child import COLLECT_AFTER
from headwater.server.run_process import SWITCH_SECONDS
from tests.connectors.conformance.context import make_context
from tests.postgresql import PASSWORD, USER, PostgresqlServer, missing
from tests.runs.scenario import Scenario, csv_definition, open_scenario, schema

COLUMNS: Final = ("id", "email", "first", "last", "plan", "country", "city", "created", "orders", "changed")
ROWS: Final = 200_000
INTAKE_RATE: Final = 20.0
"""Batches of 100 events a second."""
MAPPING: Final = {
    "email": "lower(trim(email))",
    "name": "first ' ' last",
    "country": "coalesce(country, 'unknown')",
    "paying": "eq(plan, 'pro')",
    "since": "created",
    "orders": "orders",
}
_TEXT: Final = StringType()


def definition() -> Definition:
    used = [name for name in COLUMNS if name != "city"]
    return csv_definition(
        in_schema=schema(**dict.fromkeys(used, _TEXT)),
        out_schema=serialise(
            ObjectType(
                (
                    Property("email", StringType(max_length=254)),
                    Property("name", StringType(max_length=200)),
                    Property("country", _TEXT),
                    Property("paying", BooleanType()),
                    Property("since", DateType()),
                    Property("orders", IntType(32)),
                )
            )
        ).decode(),
        transformation=TransformationDefinition(mapping=MAPPING),
        updated_at_format="%Y-%m-%d %H:%M:%S",
    )


def table_definition() -> Definition:
    """Return the definition that imports the same users from a table, whose columns can be null."""
    used = [Property(name, _TEXT, nullable=True) for name in COLUMNS if name != "city"]
    return msgspec.structs.replace(
        definition(),
        in_schema=schema(*used),
        format="",
        path="",
        format_settings={},
        query="SELECT * FROM users",
    )


def fill_table(server: PostgresqlServer, name: str, path: Path) -> None:
    """Make a table of a database from a CSV file."""

    async def fill() -> None:
        connection = await asyncpg.connect(
            host="127.0.0.1", port=server.port, user=USER, password=PASSWORD, database=name, timeout=60
        )
        try:
            await connection.execute(f"CREATE TABLE users ({', '.join(f'{column} text' for column in COLUMNS)})")
            await connection.copy_to_table("users", source=path, format="csv", header=True)
        finally:
            await connection.close()

    asyncio.run(fill())


def write_csv(path: Path, rows: int) -> None:
    """Write users whose ids are in no order."""
    numbers = random.Random(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number in range(rows):
            day, time = 1 + number % 28, f"{number % 24:02d}:{number % 60:02d}:{number % 59:02d}"
            writer.writerow(
                (
                    f"u{numbers.getrandbits(40):011x}{number:x}",
                    f" User{number}@Example.com",
                    "Ada",
                    f"Lovelace {number}",
                    "pro" if number % 2 else "free",
                    "IT",
                    "Rome",
                    f"2024-01-{day:02d}",
                    number % 1000,
                    f"2026-{1 + number % 12:02d}-{day:02d} {time}",
                )
            )


class FolderStorage:
    """Reads files of a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def absolute_path(self, name: str) -> str:
        return str(self._folder / name)

    @contextmanager
    def open(self, name: str) -> Iterator[StoredFile]:
        path = self._folder / name
        with path.open("rb", buffering=0) as stream:
            yield StoredFile(stream=stream, size=path.stat().st_size, version=name)

    def create(self, name: str, content_type: str) -> Any:
        raise NotImplementedError


class _Table(PostgreSQLSource):
    """Stays open between two runs."""

    def close(self) -> None:
        pass


def floor(path: Path, folder: Path) -> float:
    """Return the rows a second of the baseline."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".db") as database, path.open(newline="") as file:
        connection = sqlite3.connect(database.name, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute(f"CREATE TABLE users ({', '.join(COLUMNS)}, PRIMARY KEY (id))")
        insert = f"INSERT INTO users VALUES ({', '.join('?' * len(COLUMNS))})"
        began = time.perf_counter()
        rows = csv.reader(file)
        next(rows)
        count = 0
        while batch := list(islice(rows, TRANSACTION_ROWS)):
            connection.execute("BEGIN")
            connection.executemany(insert, batch)
            connection.execute("COMMIT")
            count += len(batch)
        spent = time.perf_counter() - began
        connection.close()
    return count / spent


async def run(scenario: Scenario) -> tuple[float, float]:
    """Import; return the rows a second, and the processor time of a row in microseconds."""
    job = scenario.job()
    began, cpu_began = time.perf_counter(), time.process_time()
    await execute_import(job)
    spent, cpu = time.perf_counter() - began, time.process_time() - cpu_began
    rows = job.report.progress.rows
    return rows / spent, 1e6 * cpu / rows


def imports(folder: Path, seconds: float) -> None:
    """Rows/s of imports of CSV and of PostgreSQL, with a mapping of six properties, to identities stored."""
    gc.freeze()  # these as in a run process
    gc.set_threshold(COLLECT_AFTER)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_SECONDS)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "users.csv"
    write_csv(path, ROWS)
    files = FolderStorage(folder)
    for name in ("file", "table", "file-postgresql", "table-postgresql"):
        (folder / name).mkdir(exist_ok=True)
    asyncio.run(_import_twice(folder / "file", path, definition(), "CSV, SQLite", storage=files))
    if not missing():
        server = PostgresqlServer(is_durable=True)
        try:
            _import_with_postgresql(folder, path, server)
        finally:
            server.close()
    sys.setswitchinterval(interval)
    _intake(folder / "system", seconds)


def _import_with_postgresql(folder: Path, path: Path, server: PostgresqlServer) -> None:
    """Import from a table into both stores, and from the file into PostgreSQL."""
    name = urlsplit(server.create(empty=True)).path.removeprefix("/")
    fill_table(server, name, path)
    settings = PostgreSQLSettings(
        host="127.0.0.1", port=server.port, username=USER, password=PASSWORD, database=name, schema="public"
    )
    context = msgspec.structs.replace(make_context(), addresses=ANY_ADDRESS)
    table, files = table_definition(), FolderStorage(folder)
    for store, used, url in (("SQLite", "table", None), ("PostgreSQL", "table-postgresql", server.create())):
        source = _Table(settings, context)
        asyncio.run(_import_twice(folder / used, path, table, f"table, {store}", database=source, database_url=url))
    url = server.create()
    asyncio.run(
        _import_twice(
            folder / "file-postgresql", path, definition(), "CSV, PostgreSQL", storage=files, database_url=url
        )
    )


async def _import_twice(folder: Path, path: Path, wanted: Definition, name: str, **parts: Any) -> None:
    """Print the rates of an import of new users, and of unchanged ones."""
    async with open_scenario(folder, wanted, **parts) as scenario:
        baseline = floor(path, folder)
        for state in ("new", "unchanged"):
            rate, cpu = await run(scenario)
            print(
                f"  {name:17} {state:10} {rate:9,.0f} rows/s   {cpu:5.1f} µs of processor time a row   "
                f"baseline {baseline:9,.0f}   ratio {rate / baseline:.2f}   "
                "(goal 60,000 and 0.3, of a table 40,000)"
            )


def _intake(folder: Path, seconds: float) -> None:
    """Print the latency of the intake, alone and while a run imports customers of the dummy application."""
    with running(folder) as (system, _connection, write_key):
        plan = Plan(system.port, "batch", max(seconds, 10), 4, f"Bearer {write_key}", "/v1/batch", INTAKE_RATE)
        with httpx.Client(base_url=system.base_url, headers=system.authorization, timeout=60) as client:
            pipeline = _add_dummy(client)
            alone = measure(plan)
            run = client.post(f"/v1/pipelines/{pipeline}/runs", json={}).raise_for_status().json()["id"]
            while client.get(f"/v1/pipelines/runs/{run}").json()["status"] == "Queued":
                time.sleep(0.1)
            during = measure(plan)
            found = client.get(f"/v1/pipelines/runs/{run}").raise_for_status().json()
            client.post(f"/v1/pipelines/runs/{run}/cancel")
        print(
            f"  intake alone p99 {1000 * alone.p99:.0f} ms, during an import {1000 * during.p99:.0f} ms: "
            f"{during.p99 / alone.p99:.1f} times (goal 2)   the run is {found['status']}   {memory(system)}"
        )


def _add_dummy(client: httpx.Client) -> int:
    """Add a pipeline that imports a million customers; return its id."""
    client.put(
        "/v1/profiles/schema",
        json={"schema": {"kind": "object", "properties": [{"name": "email", "type": {"kind": "string"}}]}},
    )
    connection = client.post(
        "/v1/connections",
        json={
            "name": "Dummy",
            "role": "Source",
            "connector": "dummy",
            "settings": {"numberOfCustomers": 1_000_000},
        },
    )
    text = {"kind": "string"}
    pipeline = client.post(
        "/v1/pipelines",
        json={
            "connection": connection.raise_for_status().json()["id"],
            "target": "User",
            "name": "Import",
            "enabled": True,
            "inSchema": {
                "kind": "object",
                "properties": [{"name": "email", "type": text, "description": "Email"}],
            },
            "outSchema": {
                "kind": "object",
                "properties": [{"name": "email", "type": text, "readOptional": True}],
            },
            "transformation": {"mapping": {"email": "email"}},
        },
    )
    return int(pipeline.raise_for_status().json()["id"])
