"""The log in SQLite, with killed processes, several processes, and a full disk."""

import asyncio
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

import pytest

from headwater.base.clock import SystemClock
from headwater.base.errors import TooManyRequests, Unavailable
from headwater.log import LeaseTaken, LogEntry, SqliteEventLog, StoredEntry, sqlite
from tests.disk import no_file_larger_than, small_disk

CRASH_ROUNDS = int(os.environ.get("HEADWATER_CRASH_ROUNDS", "3"))


async def stored(log: SqliteEventLog) -> list[StoredEntry]:
    return await log.read(0, max_bytes=1 << 30, wait=timedelta(0))


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own, which speaks to the test over its standard output."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ":".join(sys.path)},
        text=True,
    )


APPEND = """
import asyncio, sys
from pathlib import Path
from headwater.base.clock import SystemClock
from headwater.log import LogEntry, SqliteEventLog

async def main(path, name, callers, count):
    log = SqliteEventLog(Path(path), SystemClock())

    async def call(caller):
        for number in range(count):
            body = f"{name} {caller} {number}"
            position = await log.append(LogEntry(1 + number % 3, b"", body.encode()))
            sys.stdout.write(f"{position} {body}\\n")
            sys.stdout.flush()

    print("ready", flush=True)
    await asyncio.gather(*map(call, range(callers)))
    await log.close()

asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
"""


@pytest.mark.process
async def test_killed_at_any_moment_everything_acknowledged_is_there_once(tmp_path: Path) -> None:
    """HEADWATER_CRASH_ROUNDS sets how many kills."""
    acknowledged: dict[int, str] = {}
    for number in range(CRASH_ROUNDS):
        process = run(APPEND, tmp_path / "log.db", f"round{number}", 8, 1_000_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        await asyncio.sleep(random.uniform(0.05, 0.4))
        process.send_signal(signal.SIGKILL)
        for line in process.communicate(timeout=20)[0].splitlines(keepends=True):
            if line.endswith("\n"):  # the last may be cut short
                position, _, body = line.strip().partition(" ")
                assert int(position) not in acknowledged
                acknowledged[int(position)] = body
    log = SqliteEventLog(tmp_path / "log.db", SystemClock())
    try:
        entries = await stored(log)
    finally:
        await log.close()
    found = {entry.position: entry.entry.body.decode() for entry in entries}
    assert len(acknowledged) > 0
    assert acknowledged.items() <= found.items()
    assert len(set(found.values())) == len(found), "a frame is there twice"
    assert [entry.position for entry in entries[1:]] == [entry.last + 1 for entry in entries[:-1]]


@pytest.mark.process
async def test_processes_that_start_together_share_one_file(tmp_path: Path) -> None:
    processes = [run(APPEND, tmp_path / "log.db", name, 4, 100) for name in ("a", "b", "c")]
    lines = []
    for process in processes:
        lines += process.communicate(timeout=120)[0].splitlines()
        assert process.returncode == 0
    acknowledged = dict(line.split(" ", 1) for line in lines if line != "ready")
    assert len(acknowledged) == 1200
    log = SqliteEventLog(tmp_path / "log.db", SystemClock())
    try:
        entries = await stored(log)
    finally:
        await log.close()
    assert {str(entry.position): entry.entry.body.decode() for entry in entries} == acknowledged
    assert [entry.position for entry in entries[1:]] == [entry.last + 1 for entry in entries[:-1]]


LEASE = """
import asyncio, sys, time
from pathlib import Path
from headwater.base.clock import SystemClock
from headwater.log import SqliteEventLog

async def main(path):
    lease = await SqliteEventLog(Path(path), SystemClock()).lease("warehouse")
    print("held", flush=True)
    time.sleep(60)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.process
async def test_a_lease_ends_with_its_process(tmp_path: Path) -> None:
    process = run(LEASE, tmp_path / "log.db")
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    log = SqliteEventLog(tmp_path / "log.db", SystemClock())
    try:
        with pytest.raises(LeaseTaken):
            await log.lease("warehouse")
        process.kill()
        process.wait(60)
        await (await log.lease("warehouse")).release()
    finally:
        process.stdout.close()
        await log.close()


@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_full_disk_is_unavailable_and_what_was_acknowledged_stays(tmp_path: Path, in_thread: bool) -> None:
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), commit_in_thread=in_thread)
    acknowledged: list[tuple[int, LogEntry]] = []
    with no_file_larger_than(1 << 20), pytest.raises(Unavailable, match="the event log cannot be written"):
        for number in range(100):
            entry = LogEntry(1, b"", b"%d " % number * 10_000)
            acknowledged.append((await log.append(entry), entry))
    assert acknowledged
    after = LogEntry(1, b"", b"there is room again")
    acknowledged.append((await log.append(after), after))
    await log.close()
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), commit_in_thread=in_thread)
    try:
        assert [(entry.position, entry.entry) for entry in await stored(log)] == acknowledged
    finally:
        await log.close()


async def test_a_log_that_is_locked_for_too_long_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_SECONDS", 0.05)
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), commit_in_thread=True)
    stranger = sqlite._connect(tmp_path / "log.db")
    stranger.execute("BEGIN IMMEDIATE")
    try:
        with pytest.raises(Unavailable):
            await log.append(LogEntry(1, b"", b"x"))
        stranger.execute("ROLLBACK")
        assert await log.append(LogEntry(1, b"", b"y")) == 1
    finally:
        stranger.close()
        await log.close()


async def test_too_much_that_waits_is_too_many_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "MAX_PENDING_BYTES", 10_000)
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), commit_in_thread=False)
    try:
        appends = [log.append(LogEntry(1, b"", bytes(1000))) for _ in range(100)]
        outcomes = await asyncio.gather(*appends, return_exceptions=True)
        refused = [outcome for outcome in outcomes if isinstance(outcome, TooManyRequests)]
        assert len(refused) == 90
        assert refused[0].retry_after >= 1
        assert len(await stored(log)) == 10, "what was refused is not there"
        assert await log.append(LogEntry(1, b"", bytes(20_000))) == 11, "one frame is always taken"
    finally:
        await log.close()


async def test_a_lease_that_cannot_be_written_down_is_not_held(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", SystemClock())
    try:
        with no_file_larger_than(0), pytest.raises(Unavailable, match="disk"):
            await log.lease("warehouse")
        await (await log.lease("warehouse")).release()
    finally:
        await log.close()


async def test_one_commit_carries_all_that_has_gathered(tmp_path: Path) -> None:
    """A hundred callers need a few fsyncs: group commit makes the log fast."""
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), commit_in_thread=False)
    try:
        await asyncio.gather(*(log.append(LogEntry(1, b"", b"x")) for _ in range(100)))
        moments = {row[0] for row in log._reader.execute("SELECT appended_at FROM frames")}
        assert len(moments) == 1
    finally:
        await log.close()


async def test_a_clock_that_was_set_back_does_not_reorder_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), commit_in_thread=False)
    try:
        assert await log.append(LogEntry(1, b"", b"a")) == 1
        monkeypatch.setattr(time, "time_ns", lambda: 0)
        assert await log.append(LogEntry(1, b"", b"b")) == 2
        assert [entry.entry.body for entry in await stored(log)] == [b"a", b"b"]
    finally:
        await log.close()


async def test_a_log_that_was_lost_goes_on_after_what_was_finished(tmp_path: Path) -> None:
    """Consumers would treat lower positions as old ones, and never read them."""
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), after=41)
    try:
        assert await log.append(LogEntry(2, b"", b"first")) == 42
        assert await log.append(LogEntry(1, b"", b"second")) == 44
        assert [entry.position for entry in await log.read(41, max_bytes=1 << 20, wait=timedelta(0))] == [42, 44]
    finally:
        await log.close()


async def test_positions_have_no_gaps(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", SystemClock())
    try:
        assert [await log.append(LogEntry(events, b"", b"")) for events in (1, 3, 1, 100, 1)] == [1, 2, 5, 6, 106]
    finally:
        await log.close()


# --- Space ----------------------------------------------------------------------------------------------------------


@pytest.mark.process
@pytest.mark.parametrize("in_thread", [False, True])
async def test_a_disk_that_fills_up_is_unavailable_until_there_is_room(tmp_path: Path, in_thread: bool) -> None:
    with small_disk(tmp_path / "disk", "8m") as disk:
        (disk / "ballast").write_bytes(bytes(3 << 20))
        log = SqliteEventLog(disk / "log.db", SystemClock(), commit_in_thread=in_thread)
        acknowledged: list[tuple[int, LogEntry]] = []

        async def fill() -> None:
            with pytest.raises(Unavailable, match="cannot be written"):
                for number in range(1000):
                    entry = LogEntry(1, b"", b"%d " % number * 10_000)
                    acknowledged.append((await log.append(entry), entry))

        await fill()
        assert acknowledged
        before = len(acknowledged)
        (disk / "ballast").unlink()
        await fill()
        assert len(acknowledged) > before, "it goes on by itself when there is room"
        assert [(entry.position, entry.entry) for entry in await stored(log)] == acknowledged
        await log.close()
        log = SqliteEventLog(disk / "log.db", SystemClock(), commit_in_thread=in_thread)
        assert [(entry.position, entry.entry) for entry in await stored(log)] == acknowledged
        await log.close()


async def test_the_file_does_not_grow_beyond_its_bound(tmp_path: Path) -> None:
    """A hundred times the bound goes through it, at the pace of its consumer."""
    bound = 1 << 20
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), max_bytes=bound)
    try:
        lease = await log.lease("warehouse")
        for _ in range(1000):
            await lease.advance(await log.append(LogEntry(1, b"", bytes(100_000))))
        await lease.release()
        assert (tmp_path / "log.db").stat().st_size <= bound
    finally:
        await log.close()


async def test_a_limit_below_the_present_size_rejects_appends_and_keeps_entries(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", SystemClock())
    for _ in range(20):
        await log.append(LogEntry(1, b"", bytes(100_000)))
    await log.close()
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), max_bytes=1 << 20)
    try:
        with pytest.raises(Unavailable):
            await log.append(LogEntry(1, b"", bytes(100_000)))
        assert len(await stored(log)) == 20
    finally:
        await log.close()


async def test_a_file_from_before_sizes_were_counted_is_taken(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "log.db")
    old.execute(
        "CREATE TABLE frames (position INTEGER PRIMARY KEY, events INTEGER NOT NULL, appended_at INTEGER NOT NULL, "
        "header BLOB NOT NULL, body BLOB NOT NULL)"
    )
    old.execute("INSERT INTO frames VALUES (1, 2, 0, x'', x'00')")
    old.commit()
    old.close()
    log = SqliteEventLog(tmp_path / "log.db", SystemClock())
    try:
        assert await log.append(LogEntry(1, b"", bytes(1000))) == 3
        assert [entry.position for entry in await stored(log)] == [1, 3]
        assert await log.backlog_bytes() == 1001
    finally:
        await log.close()


@pytest.mark.process
async def test_a_file_from_before_consumers_could_lag_is_taken_by_processes_that_start_together(tmp_path: Path) -> None:
    old = sqlite3.connect(tmp_path / "log.db")
    old.executescript(
        "CREATE TABLE frames (position INTEGER PRIMARY KEY, events INTEGER NOT NULL, appended_at INTEGER NOT NULL, "
        "header BLOB NOT NULL, body BLOB NOT NULL, bytes_before INTEGER NOT NULL DEFAULT 0); "
        "CREATE TABLE cursors (consumer TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID; "
        "INSERT INTO frames VALUES (1, 1, 0, x'', x'00', 0), (2, 1, 0, x'', x'0000', 1); "
        "INSERT INTO cursors VALUES ('warehouse', 1);"
    )
    old.close()
    processes = [run(APPEND, tmp_path / "log.db", name, 1, 1) for name in "abc"]
    for process in processes:
        process.communicate(timeout=120)
        assert process.returncode == 0
    log = SqliteEventLog(tmp_path / "log.db", SystemClock())
    try:
        assert await log.cursors() == {"warehouse": 1}
        assert not (await log.backlogs())["warehouse"].may_lag
        assert await log.trim(older_than=timedelta(0)) == 1
        assert [entry.position for entry in await stored(log)] == [2, 3, 4, 5]
        lease = await log.lease("lane", may_lag=True)
        await lease.release()
        assert (await log.backlogs())["lane"].may_lag
    finally:
        await log.close()


# --- Trimming -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 100_000])
async def test_trims_in_transactions_of_a_bounded_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(sqlite, "MAX_TRIM_ENTRIES", 20)
    monkeypatch.setattr(sqlite, "TRIM_BYTES", 400_000)
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), commit_in_thread=False)
    try:
        lease = await log.lease("warehouse")
        await lease.advance(max(await asyncio.gather(*(log.append(LogEntry(1, b"", bytes(size))) for _ in range(50)))))
        await lease.release()
        removed = sqlite._remove(log._reader, sys.maxsize)
        assert removed == (20 if size == 10 else 4)
        assert await log.trim(older_than=timedelta(0)) == 49 - removed
        assert [entry.position for entry in await stored(log)] == [50]
    finally:
        await log.close()


async def test_trimming_does_not_write_what_it_removes_again(tmp_path: Path) -> None:
    """SQLite as Debian builds it zeroes freed pages: as much to write as storing them."""
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), commit_in_thread=False)
    try:
        for connection in (log._writer, log._reader):
            assert connection.execute("PRAGMA secure_delete").fetchone() == (2,), "FAST"
        lease = await log.lease("warehouse")
        await lease.advance([await log.append(LogEntry(1, b"", bytes(70_000))) for _ in range(50)][-1])
        await lease.release()
        log._reader.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert await log.trim(older_than=timedelta(0)) == 49
        assert (tmp_path / "log.db-wal").stat().st_size < 49 * 70_000 / 5
    finally:
        await log.close()


# --- A torn write -------------------------------------------------------------------------------------------------


async def test_after_a_torn_write_every_entry_before_the_tear_is_there(tmp_path: Path) -> None:
    """The end of the file is cut off, or spoilt, anywhere: as after a power cut in the middle of a write."""
    log = SqliteEventLog(tmp_path / "log.db", SystemClock(), commit_in_thread=False)
    sizes: list[int] = []  # of the file after each append
    entries = [LogEntry(1, b"", b"%d " % number * 2_000) for number in range(40)]
    for entry in entries:
        await log.append(entry)
        sizes.append((tmp_path / "log.db-wal").stat().st_size)
    database, wal = (tmp_path / "log.db").read_bytes(), (tmp_path / "log.db-wal").read_bytes()
    await log.close()
    assert sizes == sorted(set(sizes)), "all of it is in the WAL"
    source = random.Random(5)
    for number in range(40):
        tear = source.randrange(sizes[0], len(wal))
        end = wal[tear:]
        spoilt = source.choice([b"", bytes(len(end)), source.randbytes(len(end)), bytes([end[0] ^ 1]) + end[1:]])
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "log.db").write_bytes(database)
        (folder / "log.db-wal").write_bytes(wal[:tear] + spoilt)
        log = SqliteEventLog(folder / "log.db", SystemClock(), commit_in_thread=False)
        try:
            found = [entry.entry for entry in await stored(log)]
            before_the_tear = sum(size <= tear for size in sizes)
            assert found[:before_the_tear] == entries[:before_the_tear]
            assert len(found) == before_the_tear, "and nothing of what was torn"
            await log.append(LogEntry(1, b"", b"goes on"))
            assert [entry.position for entry in await stored(log)] == list(range(1, len(found) + 2))
        finally:
            await log.close()
