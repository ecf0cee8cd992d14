"""Messages in RocksDB: a full disk, and an interrupted write."""

import asyncio
import random
import shutil
import signal
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path

import msgspec
import pytest
from rocksdict import AccessType, Options, Rdict

from headwater.base.errors import Unavailable
from headwater.state import MessageState, MessageStates, StateStore, open_state
from headwater.state.deduplication import RETENTION
from tests.disk import no_file_larger_than, small_disk
from tests.harness import MovableClock
from tests.sqlite import migrated_url


def some(batch: int, *, size: int = 20) -> MessageStates:
    return {(1, f"{batch}-{number}"): MessageState(batch * size + number, batch) for number in range(size)}


async def record(state: StateStore, entries: MessageStates) -> None:
    async with state.transaction() as transaction:
        await transaction.save(entries)


async def test_after_a_write_that_failed_it_is_written_again(tmp_path: Path) -> None:
    """RocksDB rejects every write from then on, until it is opened again."""
    async with open_state(migrated_url(tmp_path / "state.db"), writes=True, clock=MovableClock()) as state:
        await record(state, some(0))
        with no_file_larger_than(50_000), pytest.raises(Unavailable, match="the deduplication store does not respond"):
            await record(state, some(1, size=5_000))
        assert await state.messages(some(0)) == some(0)
        assert await state.messages(some(1, size=5_000)) == {}
        await record(state, some(2))
        assert await state.messages(some(2)) == some(2)
    async with open_state(migrated_url(tmp_path / "state.db"), writes=False, clock=MovableClock()) as reader:
        assert await reader.messages(some(0) | some(2)) == some(0) | some(2)


@pytest.mark.process
async def test_a_reader_leaves_nothing_and_clears_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, scratch = tmp_path / "temporary", tmp_path / "scratch"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    url = migrated_url(tmp_path / "state.db")
    async with open_state(url, writes=True, clock=MovableClock()) as state:
        await record(state, some(0))
        async with open_state(url, writes=False, clock=MovableClock()) as reader:
            assert await reader.messages(some(0)) == some(0)
            assert len([*temporary.iterdir()]) == 1
        killed = await asyncio.create_subprocess_exec(sys.executable, "-c", KILLED, url, str(scratch), stdout=PIPE)
        async with asyncio.timeout(60):
            output, _ = await killed.communicate()
        assert output == b"1"
        assert killed.returncode == -signal.SIGKILL
        assert scratch.is_dir()
        (scratch / "left").touch()
        async with open_state(url, writes=False, clock=MovableClock(), scratch=scratch) as reader:
            assert await reader.messages(some(0)) == some(0)
            assert not (scratch / "left").exists()
    assert not scratch.exists()
    assert [*temporary.iterdir()] == []


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from headwater.base.clock import SystemClock
from headwater.state import open_state

async def read(url, scratch):
    async with open_state(url, writes=False, clock=SystemClock(), scratch=Path(scratch)) as reader:
        print(len(await reader.messages([(1, "0-0")])), end="", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(read(*sys.argv[1:]))
"""


@pytest.mark.process
async def test_a_disk_that_fills_up_stops_it_until_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "24m") as disk:
        (disk / "ballast").write_bytes(bytes(20 << 20))
        recorded: MessageStates = {}
        async with open_state(migrated_url(disk / "state.db"), writes=True, clock=MovableClock()) as state:
            with pytest.raises(Unavailable, match="the deduplication store does not respond"):
                for batch in range(1_000):
                    await record(state, some(batch, size=1_000))
                    recorded |= some(batch, size=1_000)
            for _ in range(5):
                with pytest.raises(Unavailable, match="the deduplication store does not respond"):
                    await record(state, some(2_000, size=1_000))
            (disk / "ballast").unlink()
            await record(state, some(2_000))
            recorded |= some(2_000)
            assert await state.messages(recorded) == recorded


async def test_after_a_torn_write_everything_before_the_tear_is_there(tmp_path: Path) -> None:
    """The tail of its log is cut off, or spoilt, anywhere: as after a power cut in the middle of a write."""
    batches = [some(number) for number in range(20)]
    async with open_state(migrated_url(tmp_path / "state.db"), writes=True, clock=MovableClock()) as state:
        sizes = []  # of its log after each batch
        for batch in batches:
            await record(state, batch)
            (log,) = (tmp_path / "ledger").glob("*.log")
            sizes.append(log.stat().st_size)
        shutil.copytree(tmp_path / "ledger", tmp_path / "crashed")
    source = random.Random(5)
    for number in range(20):
        folder = tmp_path / str(number)
        shutil.copytree(tmp_path / "crashed", folder / "ledger")
        torn = folder / "ledger" / log.name
        whole = torn.read_bytes()
        tear = source.randrange(len(whole))
        end = whole[tear:]
        spoilt = source.choice([b"", bytes(len(end)), source.randbytes(len(end)), bytes([end[0] ^ 1]) + end[1:]])
        torn.write_bytes(whole[:tear] + spoilt)
        before = sum(size <= tear for size in sizes)
        async with open_state(migrated_url(folder / "state.db"), writes=True, clock=MovableClock()) as state:
            found = [await state.messages(batch) == batch for batch in batches]
            assert found[:before] == [True] * before
            assert not any(found[before + 1 :]), "what lies behind the tear"
            await record(state, some(100))
            assert await state.messages(some(100)) == some(100)


async def test_it_keeps_its_bloom_filters_when_it_is_opened_again(tmp_path: Path) -> None:
    """Without them each lookup of a new message reads a page of every file."""
    for opening in range(3):
        async with open_state(migrated_url(tmp_path / "state.db"), writes=True, clock=MovableClock()) as state:
            await record(state, some(opening))
        newest = max((tmp_path / "ledger").glob("OPTIONS-*"))
        assert "filter_policy=bloomfilter" in newest.read_text()


IDS = [
    "c0ffee00-0000-4000-8000-00000000000a",
    "C0FFEE00-0000-4000-8000-00000000000A",
    "c0ffee0000004000800000000000000a",
    "C0FFEE0000004000800000000000000A",
    "c0ffee00-00004000-8000-0000-0000000a",
    "c0ffee00-0000-4000-8000-00000000000a ",
    "",
    "m",
]


async def test_ids_that_differ_are_different_messages(tmp_path: Path) -> None:
    states = {(1, id_): MessageState(number, 0) for number, id_ in enumerate(IDS)}
    async with open_state(migrated_url(tmp_path / "state.db"), writes=True, clock=MovableClock()) as state:
        await record(state, states)
        assert await state.messages(states) == states


def past_the_store(folder: Path) -> Rdict:
    lifetime = AccessType.with_ttl(int(RETENTION.total_seconds()))
    return Rdict(str(folder), Options(raw_mode=True), access_type=lifetime)


async def test_messages_of_an_earlier_release_are_known_until_they_expire(tmp_path: Path) -> None:
    """An earlier release wrote ids in UTF-8, and states as arrays of their fields."""
    former = Rdict(
        str(tmp_path / "ledger"),
        Options(raw_mode=True),
        access_type=AccessType.with_ttl(int(RETENTION.total_seconds())),
    )
    for number, id_ in enumerate(IDS):
        former[(7).to_bytes(4) + id_.encode()] = msgspec.msgpack.encode([number, 5])
    former.close()
    clock, url, keys = MovableClock(), migrated_url(tmp_path / "state.db"), [(7, id_) for id_ in IDS]
    known = {(7, id_): MessageState(number, 5) for number, id_ in enumerate(IDS)}
    async with open_state(url, writes=True, clock=clock) as state:
        assert await state.messages(keys) == known
        async with open_state(url, writes=False, clock=clock) as reader:
            assert await reader.messages(keys) == known
            later = {keys[0]: MessageState(9, 9)}
            await record(state, later)
            assert await reader.messages(keys) == await state.messages(keys) == known | later, "the newer state wins"
    clock.advance(RETENTION.total_seconds())
    async with open_state(url, writes=True, clock=clock) as state:
        found = await state.messages(keys)
        assert keys[0] in found
        assert keys[2] not in found, "it is not looked for: RocksDB has removed it, or is about to"


async def test_a_folder_made_by_this_release_has_no_former_keys(tmp_path: Path) -> None:
    clock, url = MovableClock(), migrated_url(tmp_path / "state.db")
    async with open_state(url, writes=True, clock=clock) as state:
        await record(state, some(0))
    former = Rdict(
        str(tmp_path / "ledger"),
        Options(raw_mode=True),
        access_type=AccessType.with_ttl(int(RETENTION.total_seconds())),
    )
    former[(7).to_bytes(4) + IDS[0].encode()] = msgspec.msgpack.encode([1, 5])
    former.close()
    async with open_state(url, writes=True, clock=clock) as state:
        assert await state.messages([(7, IDS[0])]) == {}
