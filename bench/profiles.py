"""The cost of identity resolution: of all identities, of one change, and of events that change nothing."""

import asyncio
import gc
import os
import random
import resource
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Final, cast

import httpx
import msgspec
from sqlalchemy import Connection, text

from bench.running import running
from headwater.base.clock import SystemClock, microseconds
from headwater.catalog import Catalog, Workspace
from headwater.catalog.profiles import Identifier, ProfileSchema, ResolutionSettings
from headwater.filters import Condition, Filter, check_filter
from headwater.profiles.full import FullResolution
from headwater.profiles.previewing import preview
from headwater.profiles.updating import ProfileResolver
from headwater.schemas import Property, Schema, StringType
from headwater.server.child import COLLECT_AFTER
from headwater.state import IdentityObservation, StateStore, bulk, open_state
from headwater.state.profiles.resolving import ResolutionRows
from headwater.state.profiles.searching import Order, Search
from headwater.state.tables import checkpoints, identities
from headwater.storage.database import sqlite_url
from tests import postgresql
from tests.system import RunningSystem

SIZES: Final = [int(size) for size in os.environ.get("HEADWATER_BENCH_PROFILES", "10000,100000,1000000").split(",")]
CHANGES: Final = 2_000
"""Number of identities whose incremental resolution is measured."""
SHARED: Final = 100_000
"""Number of identities with one value."""
BATCH: Final = 3_000
VISIBLE: Final = 50
"""Number of users whose profiles are waited for."""
FILTERS: Final = {
    "one condition, few": [("email", "starts with", "person.123")],
    "one condition, many": [("first_name", "contains", "7")],
    "three conditions, none": [
        ("first_name", "contains", "7"), ("last_name", "ends with", "8"), ("email", "ends with", "7@example.com"),
    ],
    "three conditions, some": [
        ("first_name", "contains", "7"), ("last_name", "contains", "77"), ("email", "ends with", "7@example.com"),
    ],
}  # fmt: skip
"""Conditions on profiles: path, operator and value."""
_READ_VALUES: Final = (
    "SELECT count(*) FROM profile_values WHERE property = (SELECT min(property) FROM profile_values) AND value > 'U'"
)
WORKSPACE: Final = 1
SOURCES: Final = (1_204_378_112, 1_204_378_113)
PIPELINES: Final = (1_318_440_219, 1_500_211_873)
SETTINGS: Final = ResolutionSettings(identifiers=tuple(Identifier(path=path) for path in ("email", "phone", "crm_id")))
SCHEMA: Final = ProfileSchema(
    schema=Schema(
        tuple(
            Property(name, StringType(), read_optional=True)
            for name in ("crm_id", "email", "first_name", "last_name", "phone")
        )
    )
)


def profiles(folder: Path, seconds: float) -> None:
    """Processor time of full resolutions, previews, lists and changes, and of other events."""
    with running(folder / "visible") as (system, connection, write_key):
        _visible(system, connection, write_key)
    for size in SIZES:
        (folder / str(size)).mkdir(parents=True)
        _run(sqlite_url(folder / str(size) / "state.db"), size)
    if not postgresql.missing():
        server = postgresql.PostgresqlServer(is_durable=True)
        try:
            for size in SIZES:
                _run(server.create(empty=True), size)
        finally:
            server.close()


def _run(url: str, size: int) -> None:
    """Measure one size in a process of its own, whose memory is measured too."""
    subprocess.run([sys.executable, "-m", "bench.profiles", url, str(size), str(CHANGES)], check=True)


def _visible(system: RunningSystem, connection: int, write_key: str) -> None:
    """Milliseconds from the acknowledgement of an identify until the user is in a profile."""
    times = []
    found = (
        "SELECT 1 FROM identities i JOIN members m ON m.identity = i.id WHERE i.connection = ? AND i.identity_id = ?"
    )
    with (
        httpx.Client(base_url=system.base_url, auth=(write_key, "")) as client,
        closing(sqlite3.connect(f"file:{system.data_dir / 'state.db'}?mode=ro", uri=True)) as database,
    ):
        for number in range(VISIBLE):
            client.post("/v1/identify", json={"userId": f"v{number}"}).raise_for_status()
            began = time.perf_counter()
            while database.execute(found, (connection, f"v{number}")).fetchone() is None:
                time.sleep(0.002)
            times.append(time.perf_counter() - began)
    _print_times("identify acknowledged until in a profile (goal p50 250 ms)", times)


async def _measure(url: str, size: int, rounds: int) -> None:
    async with open_state(url, writes=True, clock=SystemClock()) as state:
        await _fill(state, size)
        before = _peak_mib()
        installation = _Installation(state)
        kind = "PostgreSQL" if url.startswith("postgresql") else "SQLite"
        scan = await _scan_seconds(state)
        for label in ("first", "again", "preview"):
            began, spent = time.perf_counter(), time.process_time()
            if label == "preview":
                await preview(state, WORKSPACE, SETTINGS, SCHEMA, seconds=600)
            else:
                await installation.resolve()
            seconds, spent = time.perf_counter() - began, time.process_time() - spent
            print(
                f"  {kind}, {size:9,} identities, {label}: {seconds:6.2f} s ({spent:6.2f} s of the processor, "
                f"{spent / scan:4.1f} times a read of all), memory {_peak_mib():4.0f} MiB (before {before:.0f})",
                flush=True,
            )
        if size == max(SIZES):
            await _filters(state, size)
            await _incremental(installation, size, rounds)
            await _together(installation, size)
            await _unchanged(installation, size)
            await _shared(installation)


class _Installation:
    """A state store, and one workspace."""

    def __init__(self, state: StateStore) -> None:
        self.state = state
        self.workspace = Workspace(
            id=WORKSPACE, name="", created_at=datetime.now(UTC), resolution=SETTINGS, profile_schema=SCHEMA
        )
        catalog = SimpleNamespace(workspace=lambda id_: self.workspace if id_ == WORKSPACE else None)
        self.resolver = ProfileResolver(cast(Catalog, catalog), SystemClock())

    async def resolve(self) -> None:
        """Resolve all identities."""

        async def ignore(_done: int, _total: int) -> None:
            pass

        context = self.resolver.context(WORKSPACE)
        assert context is not None
        await FullResolution(self.state, context, SCHEMA, SystemClock(), ignore).run()

    async def observe(self, observations: Sequence[IdentityObservation], *, resolves: bool = True) -> float:
        """Write observations in a transaction; return its processor time in seconds."""
        spent = time.process_time()
        async with self.state.transaction() as transaction:
            changes = await transaction.merge_identities(observations)
            await transaction.change_identities(changes, self.resolver if resolves else None)
        return time.process_time() - spent


async def _filters(state: StateStore, size: int) -> None:
    """Processor time of a page of profiles, against a read of the values of one property."""
    spent = time.process_time()
    await state.read(lambda connection: connection.exec_driver_sql(_READ_VALUES).all())
    baseline = time.process_time() - spent
    for label, conditions in FILTERS.items():
        times = {}
        given = Filter("and", tuple(Condition(path, operator, (value,)) for path, operator, value in conditions))
        checked = check_filter(given, SCHEMA.schema, role="Destination", target="User")
        for order in (None, Order(("last_name",), StringType())):
            spent = time.process_time()
            page = await state.profiles.page(Search(WORKSPACE, checked, order))
            times[order is None] = time.process_time() - spent
        print(
            f"  a page of {size:,} identities, {label}: {times[True] * 1e3:.0f} ms by time, {times[False] * 1e3:.0f} "
            f"ms by name, {times[True] / baseline:.1f} and {times[False] / baseline:.1f} times a read of one property; "
            f"{page.total:,} found",
            flush=True,
        )


async def _incremental(installation: _Installation, size: int, rounds: int) -> None:
    """Milliseconds for one identity, without the commit, which a batch shares."""
    dice = random.Random(3)
    for label in ("new identity", "other evidence"):
        times: list[float] = []
        spent: list[float] = []
        for number in range(rounds):
            person = size + number if label == "new identity" else dice.randrange(size)
            observation = _observation(person, _attributes(dice, dice.randrange(size)), microseconds(_now()))
            async with installation.state.transaction() as transaction:
                changes = await transaction.merge_identities([observation])
                began, processor = time.perf_counter(), time.process_time()
                await transaction.change_identities(changes, installation.resolver)
                await transaction.flush()
                times.append(time.perf_counter() - began)
                spent.append(time.process_time() - processor)
        _print_times(f"{label} among {size:,}", times)
        _print_times(f"{label} among {size:,}, time of the processor", spent)


async def _together(installation: _Installation, size: int) -> None:
    """Milliseconds for each of the changed identities of one batch."""
    dice, now = random.Random(6), microseconds(_now())
    for count in (10, 100, 1_000):
        times = []
        for _ in range(10):
            people = [dice.randrange(size) for _ in range(count)]
            changed = [_observation(one, _attributes(dice, dice.randrange(size)), now) for one in people]
            times.append((await installation.observe(changed)) / count)
        _print_times(f"other evidence of {count:,} in a batch, time of the processor for each", times)


async def _unchanged(installation: _Installation, size: int) -> None:
    """Processor time of events that change nothing of an identity, with and without profiles."""
    dice, now = random.Random(4), microseconds(_now())
    people = [dice.randrange(size) for _ in range(BATCH)]
    observations = [_observation(person, _stored_attributes(person), now) for person in people]
    await installation.observe(observations)
    ratios = []
    spent = {True: 0.0, False: 0.0}
    for _ in range(20):
        both = {resolves: await installation.observe(observations, resolves=resolves) for resolves in (True, False)}
        ratios.append(both[True] / both[False])
        for resolves, seconds in both.items():
            spent[resolves] += seconds
    extra = (spent[True] - spent[False]) / 20 / BATCH * 1e6
    print(
        f"  an event that changes nothing: {extra:+.2f} us more than without profiles (goal 10), ratio "
        f"{statistics.median(ratios):.2f}",
        flush=True,
    )
    moved = [_observation(person, _stored_attributes(person), now + 120_000_000) for person in people]
    seconds = await installation.observe(moved)
    print(f"  an event that moves the time of an identity: {seconds / BATCH * 1e6:.0f} us", flush=True)


async def _shared(installation: _Installation) -> None:
    """A value that many identities share."""
    context = installation.resolver.context(WORKSPACE)
    assert context is not None
    dice = random.Random(5)
    attributes = msgspec.json.encode({"email": "noreply@example.com"}).decode()
    first = 1 << 40
    for start in range(0, SHARED, BATCH):
        some = range(first + start, first + min(SHARED, start + BATCH))
        began = time.perf_counter()
        await installation.observe([_observation(person, attributes, 1) for person in some])
        seconds = time.perf_counter() - began
        if start % (10 * BATCH) == 0:
            print(f"  {start:7,} identities with one value: {seconds / len(some) * 1e3:.3f} ms more", flush=True)
    times = []
    for number in range(300):
        began = time.perf_counter()
        person = first + dice.randrange(SHARED)
        given = attributes if number % 2 else "{}"
        await installation.observe([_observation(person, given, number)])
        times.append(time.perf_counter() - began)
    _print_times(f"change of one of {SHARED:,} with one value, with the commit", times)


def _print_times(label: str, times: Sequence[float]) -> None:
    ordered = sorted(times)
    p50, p99 = ordered[len(ordered) // 2], ordered[int(len(ordered) * 0.99)]
    print(f"  {label}: p50 {p50 * 1e3:.2f} ms, p99 {p99 * 1e3:.2f} ms, max {ordered[-1] * 1e3:.1f} ms", flush=True)


async def _fill(state: StateStore, size: int) -> None:
    """Write identities directly, with 1.75 for each person."""
    columns = list(identities.c)

    def write(connection: Connection, rows: list[tuple[object, ...]]) -> None:
        bulk.insert(connection, columns, rows)
        bulk.upsert(
            connection, list(checkpoints.c), [("identity ids", cast(int, rows[-1][0]).to_bytes(8))], key=("owner",)
        )
        if connection.dialect.name == "postgresql":
            connection.execute(text(f"SELECT setval('identities_id_seq', {rows[-1][0]})"))

    for rows in _rows(size):
        async with state.transaction() as transaction:
            await transaction.run(lambda connection: write(connection, rows))  # noqa: B023


def _rows(size: int) -> Iterator[list[tuple[object, ...]]]:
    for start in range(0, size, 20_000):
        yield [
            (
                number + 1,
                WORKSPACE,
                SOURCES[number % 2],
                f"user-{number}",
                False,
                PIPELINES[number % 2],
                "[]",
                number,
                _stored_attributes(number),
                0,
            )
            for number in range(start, min(size, start + 20_000))
        ]


def _stored_attributes(number: int) -> str:
    dice = random.Random(number)
    return _attributes(dice, int(number / 1.75) if dice.random() < 0.5 else dice.randrange(number + 1) * 4 // 7)


def _attributes(dice: random.Random, person: int) -> str:
    """Return attributes of a person: 80 % have an email address, 50 % a phone number, and 30 % an id of the CRM."""
    members = {"first_name": f"First {person % 1000}", "last_name": f"Last {person}", "plan": "pro"}
    if dice.random() < 0.8:
        members["email"] = f"person.{person}@example.com"
    if dice.random() < 0.5:
        members["phone"] = f"+39 02 {person:09d}"
    if dice.random() < 0.3:
        members["crm_id"] = f"crm-{person:08x}"
    return msgspec.json.encode(members).decode()


def _observation(person: int, attributes: str, at: int) -> IdentityObservation:
    pipeline = PIPELINES[person % 2]
    return IdentityObservation(
        WORKSPACE, SOURCES[person % 2], (pipeline,), f"user-{person}", None, at, (attributes,), reaches=(pipeline,)
    )


async def _scan_seconds(state: StateStore) -> float:
    """Return the processor time to read all attributes, the baseline."""

    def read(rows: ResolutionRows) -> None:
        after = 0
        while found := rows.scan(WORKSPACE, after=after, limit=5_000):
            after = found[-1][0]

    spent = time.process_time()
    await state.read_profiles(read)
    return time.process_time() - spent


def _now() -> datetime:
    return SystemClock().now()


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    gc.freeze()  # as the worker does
    gc.set_threshold(COLLECT_AFTER)
    asyncio.run(_measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
