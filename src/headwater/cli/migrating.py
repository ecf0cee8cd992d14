"""`headwater migrate-data`: moves an installation from SQLite files into an empty PostgreSQL database.

Everything is copied in one transaction: after a kill at any moment the database has no rows, and the command can be
repeated. Only the tables, and the partitions of events, are created before. The files are not changed.
"""

import argparse
import asyncio
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from headwater.base.clock import SystemClock, microseconds
from headwater.base.errors import UnusableDatabase
from headwater.catalog.tables import metadata as catalog_tables
from headwater.cli.api import print_table
from headwater.cli.progress import ProgressView, draw_bar
from headwater.log.inspecting import count_unprocessed
from headwater.server import preflight
from headwater.server.errors import StartupError
from headwater.server.settings import Settings, variable
from headwater.state.deduplication import RETENTION
from headwater.state.deduplication.copying import TABLE as MESSAGES
from headwater.state.deduplication.copying import copy_messages
from headwater.state.deduplication.rocksdb import estimate_messages
from headwater.state.deliveries.tables import METADATA as DELIVERY_TABLES
from headwater.state.lanestore.tables import METADATA as LANE_TABLES
from headwater.state.operations.tables import METADATA as OPERATION_TABLES
from headwater.state.runs.tables import METADATA as RUN_TABLES
from headwater.state.tables import METADATA as STATE_TABLES
from headwater.storage import copying
from headwater.storage.copying import SourceStore
from headwater.storage.snapshots import sync
from headwater.warehouse.drivers.postgresql.copying import TABLES as WAREHOUSE_TABLES
from headwater.warehouse.drivers.postgresql.copying import copy_events, prepare_partitions
from headwater.warehouse.drivers.postgresql.partitions import Partitions
from headwater.warehouse.drivers.postgresql.warehouse import MIGRATIONS as WAREHOUSE
from headwater.warehouse.drivers.sqlite import copying as events_file

LEDGER: Final = "ledger"
"""The folder of messages in the data directory."""
Source = tuple[SourceStore, sqlite3.Connection]
"""A store, and a reading transaction of its file."""
Counts = list[tuple[str, str]]
"""The tables and their numbers of rows."""


def run(settings: Settings, arguments: argparse.Namespace) -> None:
    """Move the data. Raises StartupError with one line if nothing was moved."""
    if settings.database_url is None:
        raise StartupError(f"set {variable('database_url')} to the empty PostgreSQL database that the data moves to")
    if not settings.catalog_path.is_file():
        raise StartupError(f"there is no installation on SQLite in {settings.data_dir}: change HEADWATER_DATA_DIR")
    os.umask(0o077)
    lock = preflight.claim_data_dir(settings)
    try:
        with _unmark_on_failure(settings.data_dir / preflight.MOVED):
            counts = asyncio.run(_migrate(settings, settings.database_url))
    except UnusableDatabase as error:
        raise StartupError(str(error)) from error
    except sqlite3.Error as error:
        raise StartupError(f"the files in {settings.data_dir} cannot be read: {error}") from error
    finally:
        os.close(lock)
    print_table(("TABLE", "ROWS"), counts)
    print(f"\n{_next_steps(settings)}")


def source_stores(settings: Settings) -> list[SourceStore]:
    """Return the stores whose tables are copied one by one: all but the events and the messages."""
    return [
        SourceStore(settings.catalog_path, "headwater.catalog.migrations", catalog_tables),
        SourceStore(settings.state_path, "headwater.state.migrations", STATE_TABLES),
        SourceStore(settings.courier_path, "headwater.state.lanestore.migrations", LANE_TABLES),
        SourceStore(settings.delivery_path, "headwater.state.deliveries.migrations", DELIVERY_TABLES),
        SourceStore(settings.operations_path, "headwater.state.operations.migrations", OPERATION_TABLES),
        SourceStore(settings.runs_path, "headwater.state.runs.migrations", RUN_TABLES),
    ]


class _Progress:
    """Shows how many of all rows are copied."""

    def __init__(self, total: int) -> None:
        self._view = ProgressView(sys.stderr)
        self._total = total
        self._done = 0
        self._table = ""

    def begin(self, table: str) -> None:
        self._table = table

    def add(self, rows: int) -> None:
        self._done += rows
        bar = draw_bar(min(1.0, self._done / max(1, self._total)))
        self._view.show(f"{bar}  {self._done} rows  {self._table}", is_last=False)

    def close(self) -> None:
        self._view.close()


async def _migrate(settings: Settings, url: str) -> Counts:
    stores = source_stores(settings)
    for store in stores:
        copying.check_revision(store)
    events_file.check_file(settings.warehouse_path)
    _check_log(settings)
    tables = [*(name for store in stores for name in store.names), MESSAGES, *WAREHOUSE_TABLES]
    async with copying.open_target(url) as driver:
        await _require_empty(driver, tables)
        for migrations in (*(store.migrations for store in stores), WAREHOUSE):
            await copying.migrate_target(url, migrations)
        with closing(events_file.open_events(settings.warehouse_path)) as events, ExitStack() as files:
            partitions = await prepare_partitions(driver, events_file.find_days(events))
            sources = [(store, files.enter_context(_open(store))) for store in stores]
            progress = _Progress(_estimate_rows(settings, sources, events))
            async with driver.transaction():
                await copying.lock_tables(driver, tables)
                await _require_empty(driver, tables)
                counts = await _copy_all(settings, driver, sources, events, partitions, progress)
                await copying.analyze(driver, tables)
                await asyncio.to_thread(_mark_moved, settings)
            progress.close()
    return counts


@contextmanager
def _unmark_on_failure(marker: Path) -> Iterator[None]:
    """Remove the mark if the block fails, unless an earlier move has left it."""
    was_moved = marker.exists()
    try:
        yield
    except BaseException:
        if not was_moved:
            marker.unlink(missing_ok=True)
        raise


def _mark_moved(settings: Settings) -> None:
    """Mark the files before the commit: a kill after it would leave files that a server starts on."""
    marker = settings.data_dir / preflight.MOVED
    marker.write_text(f"{datetime.now(UTC).isoformat(timespec='seconds')}\n")
    sync(marker)
    sync(settings.data_dir)


async def _copy_all(
    settings: Settings,
    driver: Any,
    sources: Sequence[Source],
    events: sqlite3.Connection,
    partitions: Partitions,
    progress: _Progress,
) -> Counts:
    """Copy everything in the caller's transaction."""
    counts: Counts = []
    for store, source in sources:
        for table, name in zip(store.tables, store.names, strict=True):
            progress.begin(name)
            counts.append((name, str(await copying.copy_table(driver, store, table, source, progress.add))))
    progress.begin(WAREHOUSE_TABLES[0])
    loaded = events_file.read_loaded(events)
    read = events_file.read_events(events)
    rows = await copy_events(driver, read, through=loaded, partitions=partitions, count=progress.add)
    counts.append((WAREHOUSE_TABLES[0], str(rows)))
    progress.begin(MESSAGES)
    since = microseconds(SystemClock().now() - RETENTION)
    messages = await copy_messages(driver, settings.data_dir / LEDGER, since=since, count=progress.add)
    return [*counts, (MESSAGES, str(messages))]


def _estimate_rows(settings: Settings, sources: Sequence[Source], events: sqlite3.Connection) -> int:
    """Return about how many rows there are to copy."""
    rows = sum(copying.count_rows(source, table) for store, source in sources for table in store.tables)
    return rows + events_file.count_events(events) + estimate_messages(settings.data_dir / LEDGER)


@contextmanager
def _open(store: SourceStore) -> Iterator[sqlite3.Connection]:
    """Open a file in one state: a command on the catalog may write meanwhile."""
    with closing(copying.open_file(store.path)) as source:
        source.execute("BEGIN")
        yield source
        source.execute("ROLLBACK")


async def _require_empty(driver: Any, tables: list[str]) -> None:
    if (found := await copying.find_rows(driver, tables)) is not None:
        raise UnusableDatabase(
            f"the database at {variable('database_url')} is not empty: {found} has rows. Nothing was moved: use "
            "a new database"
        )


def _check_log(settings: Settings) -> None:
    """Raise UnusableDatabase if calls of the file log would be lost, because NATS is to take its place."""
    if settings.nats_url is not None and (calls := count_unprocessed(settings.log_path)):
        raise UnusableDatabase(
            f"{settings.log_path} has calls that are not processed ({calls}): unset {variable('nats_url')} and start "
            "`headwater serve` until its backlog is empty"
        )


def _next_steps(settings: Settings) -> str:
    lines = [
        "Everything is in PostgreSQL. Next:",
        f"- Start `headwater serve` with {variable('database_url')} and the same data directory.",
    ]
    if settings.secret_key is None:
        lines.append(
            f"- Keep {settings.secret_key_path}, which encrypts the settings of connections. Other machines need its "
            f"content in {variable('secret_key')}."
        )
    if settings.nats_url is None:
        lines.append(f"- {settings.log_path.name} stays in use: calls that wait there are processed.")
    lines.append(
        "- The other .db files and ledger/ are a backup of this moment. A start on them is refused, because events "
        "would be stored and delivered twice."
    )
    return "\n".join(lines)
