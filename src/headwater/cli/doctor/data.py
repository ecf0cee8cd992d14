"""Checks of settings and data: variables, data directory, secret key, databases, PostgreSQL and NATS."""

import asyncio
import os
import shutil
import stat
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Final, TypeVar

from headwater.base.encryption import Keyring, SealError
from headwater.base.errors import UnusableDatabase
from headwater.catalog.inspecting import read_sealed_records
from headwater.cli.doctor.findings import Finding, Installation, ok, problem, warning
from headwater.log.inspecting import count_unprocessed
from headwater.server import preflight
from headwater.server.errors import StartupError
from headwater.server.secrets import keyring
from headwater.server.settings import Settings, renamed_variables, unknown_variables, variable
from headwater.storage.inspecting import PostgresqlServer, Read, open_for_reading, read_revision, read_server

MIN_FREE_BYTES: Final = 1 << 30
"""Free space below which there is a problem."""
LOW_FREE_BYTES: Final = 5 << 30
"""Free space below which there is a warning."""
MAX_CLOCK_DIFFERENCE_SECONDS: Final = 2.0
MIN_NATS: Final = (2, 10)
NATS_SECONDS: Final = 3
DATABASE_SECONDS: Final = 30.0

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Store:
    """A database of an installation: its file, and the package of its revisions."""

    name: str
    path: Callable[[Settings], Path]
    migrations: str = ""
    is_in_postgresql: bool = True


STORES: Final = (
    Store("catalog", lambda settings: settings.catalog_path, "headwater.catalog.migrations"),
    Store("state store", lambda settings: settings.state_path, "headwater.state.migrations"),
    Store("lanes", lambda settings: settings.courier_path, "headwater.state.lanestore.migrations"),
    Store("deliveries", lambda settings: settings.delivery_path, "headwater.state.deliveries.migrations"),
    Store("operations", lambda settings: settings.operations_path, "headwater.state.operations.migrations"),
    Store("runs", lambda settings: settings.runs_path, "headwater.state.runs.migrations"),
    Store("warehouse", lambda settings: settings.warehouse_path),
    Store("event log", lambda settings: settings.log_path, is_in_postgresql=False),
)
_WAREHOUSE: Final = "headwater.warehouse.drivers.postgresql.migrations"


def check_variables(installation: Installation) -> Iterable[Finding]:
    """Check that every HEADWATER_ variable is a setting."""
    unknown = unknown_variables(installation.environ)
    for name, similar in unknown.items():
        remedy = f"rename it to {similar}, or unset it" if similar else "unset it; `headwater settings` lists all"
        yield warning(
            "settings", f"{name} is not a setting" + (f": did you mean {similar}?" if similar else ""), remedy
        )
    renamed = renamed_variables(installation.environ)
    for name, present in renamed.items():
        yield warning("settings", f"{name} is the earlier name of {present}", f"rename it to {present}")
    if not unknown and not renamed:
        yield ok("settings", "valid, and every HEADWATER_ variable is known")


def check_folder(installation: Installation) -> Iterable[Finding]:
    """Check that the data directory exists, is private and writable, and has free space."""
    folder = installation.settings.data_dir
    change = f"change {variable('data_dir')}"
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not folder.exists():
        if os.access(existing, os.W_OK | os.X_OK) and existing.is_dir():
            yield warning("data directory", f"{folder} does not exist yet", "start `headwater serve`, which creates it")
        else:
            yield problem("data directory", f"{folder} cannot be created in {existing}", f"make it, or {change}")
            return
    elif not folder.is_dir():
        yield problem("data directory", f"{folder} is not a directory", change)
        return
    elif not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        yield problem("data directory", f"{folder} cannot be written by this user", f"change its owner, or {change}")
        return
    elif mode := stat.S_IMODE(folder.stat().st_mode) & 0o077:
        yield warning("data directory", f"other users have rights in {folder} (mode {mode:03o})", f"chmod go= {folder}")
    else:
        yield ok("data directory", f"{folder} is private and writable")
    free = shutil.disk_usage(existing).free
    text = f"{free / (1 << 30):.1f} GiB free in {existing}"
    if free < MIN_FREE_BYTES:
        yield problem("disk", text, "free space: calls return 503 when the disk is full")
    elif free < LOW_FREE_BYTES:
        yield warning("disk", text, "free space, or lower HEADWATER_LOG_MAX_BYTES and HEADWATER_DELIVERY_MAX_BYTES")
    else:
        yield ok("disk", text)


def check_secret_key(installation: Installation) -> Iterable[Finding]:
    """Check that there is a secret key, that only this user can read it, and that it opens the records of the
    catalog."""
    settings = installation.settings
    path = settings.secret_key_path
    if settings.secret_key is None and not path.exists() and not _exists(STORES[0], settings):
        yield ok("secret key", "none yet: the first start generates one")
        return
    try:
        keys = keyring(settings, create=False)
    except StartupError as error:
        remedy = f"bring back the file from a backup, or set {variable('secret_key')}"
        yield problem("secret key", str(error), remedy)
        return
    source = variable("secret_key") if settings.secret_key is not None else str(path)
    if settings.secret_key is None and stat.S_IMODE(path.stat().st_mode) & 0o077:
        yield warning("secret key", f"other users can read {path}", f"chmod 600 {path}")
    try:
        records = read_catalog(settings, read_sealed_records, dict[str, bytes]())
    except UnusableDatabase as error:
        yield warning("secret key", f"{source} is present, but the catalog cannot be read", str(error))
        return
    yield _compare(keys, records, source)


def check_databases(installation: Installation) -> Iterable[Finding]:
    """Check that the databases can be read, and their revisions."""
    settings = installation.settings
    for store in STORES:
        if not _exists(store, settings):
            yield ok(store.name, f"{store.path(settings).name} is created when it is needed")
            continue
        try:
            yield _wait(_check_store(store, settings))
        except UnusableDatabase as error:
            yield problem(store.name, str(error), "correct the URL or the permissions, or restore a backup")
            if settings.database_url is not None and store.is_in_postgresql:
                return  # the others are in the same database


def check_postgresql(installation: Installation) -> Iterable[Finding]:
    """Check the version, the clock and the connections of PostgreSQL."""
    url = installation.settings.database_url
    if url is None:
        return
    try:
        server = _wait(_read_server(url))
    except UnusableDatabase as error:
        yield problem("postgresql", str(error), f"correct {variable('database_url')}, or start the database")
        return
    difference = (server.time - datetime.now(UTC)).total_seconds()
    if abs(difference) > MAX_CLOCK_DIFFERENCE_SECONDS:
        text = f"its clock differs from that of this machine by {difference:+.1f} s"
        yield warning("postgresql", text, "synchronise the clocks of both machines (NTP)")
    text = f"PostgreSQL {server.version}, {server.connections} of {server.max_connections} connections in use"
    if server.connections > 0.9 * server.max_connections:
        yield warning("postgresql", text, "raise max_connections (docs/operating.md, Connections to PostgreSQL)")
    else:
        yield ok("postgresql", text)


def check_nats(installation: Installation) -> Iterable[Finding]:
    """Check that NATS can be reached, its version, JetStream and its clock."""
    url = installation.settings.nats_url
    if url is None:
        return
    try:
        version, ahead = _wait(_read_nats(url))
    except (OSError, TimeoutError, RuntimeError) as error:
        reason = str(error) or type(error).__name__
        yield problem(
            "nats", f"NATS cannot be used: {reason}", f"start NATS with JetStream, or correct {variable('nats_url')}"
        )
        return
    text = "NATS " + ".".join(map(str, version))
    if version[:2] < MIN_NATS:
        yield problem("nats", text, "install NATS 2.10 or newer")
    elif ahead is not None and abs(ahead) > MAX_CLOCK_DIFFERENCE_SECONDS:
        text += f", whose clock differs from that of this machine by {ahead:+.1f} s"
        yield warning("nats", text, "synchronise the clocks of both machines (NTP)")
    else:
        yield ok("nats", f"{text} with JetStream")


def check_moved_files(installation: Installation) -> Iterable[Finding]:
    """Check that SQLite files are not used after they were moved to PostgreSQL."""
    try:
        preflight.check_not_moved(installation.settings)
    except StartupError as error:
        problem_text, _, remedy = str(error).partition(": ")
        yield problem("moved files", problem_text, remedy)


def check_former_log(installation: Installation) -> Iterable[Finding]:
    """Check that no calls wait in the log file after NATS took its place."""
    settings = installation.settings
    if settings.nats_url is None:
        return
    try:
        calls = count_unprocessed(settings.log_path)
    except UnusableDatabase as error:
        yield problem("former log", str(error), f"bring it back from a backup, or delete {settings.log_path}")
        return
    if calls:
        text = f"{settings.log_path} has calls that are not processed ({calls}), and NATS is configured"
        yield problem("former log", text, f"start once without {variable('nats_url')} until the backlog is empty")


def _compare(keys: Keyring, records: dict[str, bytes], source: str) -> Finding:
    strange, older = [], 0
    for owner, record in records.items():
        try:
            if not keys.knows(record):
                strange.append(owner)
            elif not keys.is_present(record):
                older += 1
        except SealError as error:
            strange.append(f"{owner}: {error}")
    if strange:
        text = f"{source} does not open {strange[0]}" + (f", and {len(strange) - 1} more" if len(strange) > 1 else "")
        return problem("secret key", text, f"set {variable('secret_key')} or {variable('old_secret_keys')} to its key")
    if older:
        text = f"{older} of {len(records)} records are encrypted with earlier keys"
        return warning("secret key", text, "run `headwater secrets rotate`")
    return ok("secret key", f"{source} opens all {len(records)} encrypted records")


def read_catalog(settings: Settings, read: Read[_Result], default: _Result) -> _Result:
    """Read from the catalog; return `default` if it has no tables yet. Raises UnusableDatabase."""

    async def open_and_read() -> _Result:
        location = settings.database_url or settings.catalog_path
        if isinstance(location, Path) and not location.exists():
            return default
        async with open_for_reading(location, "catalog") as engine:
            package = import_module(STORES[0].migrations)
            if await read_revision(engine, package.VERSION_TABLE) is None:
                return default
            return await read(engine)

    return _wait(open_and_read())


async def _check_store(store: Store, settings: Settings) -> Finding:
    is_postgresql = settings.database_url is not None and store.is_in_postgresql
    migrations = store.migrations or (_WAREHOUSE if is_postgresql and store.name == "warehouse" else "")
    package = import_module(migrations) if migrations else None
    schema = "public" if package is None else package.SCHEMA
    location = settings.database_url if is_postgresql else store.path(settings)
    assert location is not None
    name = "PostgreSQL" if is_postgresql else store.path(settings).name
    async with open_for_reading(location, schema) as engine:
        revision = await read_revision(engine, "" if package is None else package.VERSION_TABLE)
    if package is None:
        return ok(store.name, f"{name} can be read")
    if revision is None:
        return ok(store.name, f"{name} has no tables yet: the first start creates them")
    number = revision.number
    if number > package.HEAD:
        text = f"{name} is at revision {number}, of a later version: this one knows {package.HEAD}"
        if revision.oldest_usable is not None and revision.oldest_usable <= package.HEAD:
            return warning(store.name, f"{text}, and can use it", "install the later version again")
        return problem(store.name, text, "install the later version again, or restore a backup")
    if number < package.HEAD:
        text = f"{name} is at revision {number}; the next start migrates it to {package.HEAD}"
        return warning(store.name, text, "make a backup before you start")
    return ok(store.name, f"{name} is at revision {number}")


async def _read_server(url: str) -> PostgresqlServer:
    async with open_for_reading(url, "public") as engine:
        return await read_server(engine)


async def _read_nats(url: str) -> tuple[tuple[int, ...], float | None]:
    """Return the version of NATS, and the seconds that its clock is ahead; None if it has no stream yet."""
    from headwater.log.jetstream.inspecting import inspect_nats

    return await inspect_nats(url, NATS_SECONDS)


def _exists(store: Store, settings: Settings) -> bool:
    if settings.database_url is not None and store.is_in_postgresql:
        return True
    if store.name == "event log" and settings.nats_url is not None:
        return False
    return store.path(settings).exists()


def _wait(work: Awaitable[_Result]) -> _Result:
    async def run() -> _Result:
        async with asyncio.timeout(DATABASE_SECONDS):
            return await work

    return asyncio.run(run())
