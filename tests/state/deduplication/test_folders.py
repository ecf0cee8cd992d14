"""A folder of messages is copied while a process writes and merges it."""

import asyncio
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from headwater.state import MessageState, MessageStates, StateStore, open_state
from headwater.state.deduplication.folders import OpenFile, open_files
from headwater.state.deduplication.message import decode_message
from headwater.state.deduplication.rocksdb import read_messages
from tests.harness import MovableClock
from tests.sqlite import migrated_url

COPIES: Final = 3
BATCH: Final = 500
BATCHES: Final = 4


def write(files: list[OpenFile], folder: Path) -> None:
    folder.mkdir()
    for each in files:
        (folder / each.name).write_bytes(each.file.read(each.size))


def copy(source: Path, folder: Path) -> None:
    with ExitStack() as stack:
        write(open_files(source, stack), folder)


def read(folder: Path) -> MessageStates:
    return {key: decode_message(value) for key, value in read_messages(folder)}


async def record(state: StateStore, messages: MessageStates) -> None:
    async with state.transaction() as transaction:
        await transaction.save(messages)


async def test_a_copy_has_all_messages_that_were_saved(tmp_path: Path) -> None:
    saved: MessageStates = {}
    async with open_state(migrated_url(tmp_path / "state.db"), writes=True, clock=MovableClock()) as state:
        for number in range(COPIES):
            for start in range(0, BATCHES * BATCH, BATCH):
                places = range(start, start + BATCH)
                batch = {
                    (1, f"{number}-{place}"): MessageState(number * BATCHES * BATCH + place, 1) for place in places
                }
                await record(state, batch)
                saved |= batch
            merging = asyncio.create_task(state.overwrite_removed())  # flushes, and writes all files again
            await asyncio.to_thread(copy, tmp_path / "ledger", tmp_path / f"copy-{number}")
            await merging
            assert read(tmp_path / f"copy-{number}") == saved
    (tmp_path / "restored").mkdir()
    (tmp_path / f"copy-{COPIES - 1}").rename(tmp_path / "restored" / "ledger")
    async with open_state(migrated_url(tmp_path / "restored" / "state.db"), writes=True, clock=MovableClock()) as state:
        assert await state.messages(saved) == saved
        await record(state, {(2, "further"): MessageState(1, 1)})


def test_there_are_no_files_without_a_folder(tmp_path: Path) -> None:
    with ExitStack() as stack:
        assert open_files(tmp_path / "ledger", stack) == []
    assert read(tmp_path / "ledger") == {}


async def test_open_files_can_be_read_after_a_merge_deleted_them(tmp_path: Path) -> None:
    messages = {(1, "a"): MessageState(1, 1)}
    async with open_state(migrated_url(tmp_path / "state.db"), writes=True, clock=MovableClock()) as state:
        await record(state, messages)
    with ExitStack() as stack:
        files = open_files(tmp_path / "ledger", stack)
        shutil.rmtree(tmp_path / "ledger")
        write(files, tmp_path / "copy")
    assert read(tmp_path / "copy") == messages
