"""Each message is stored once after a part was restored from an older backup, or a write was cut short."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from headwater.base.errors import Unavailable
from headwater.catalog import Connection
from headwater.state import Transaction
from tests.harness import Harness, add_source, open_harness


async def send(harness: Harness, source: Connection, *ids: str) -> None:
    events = [{"type": "track", "event": "e", "userId": id_, "messageId": id_} for id_ in ids]
    await harness.send(source, json.dumps({"batch": events}).encode())


async def stored(harness: Harness) -> list[str]:
    return [json.loads(document)["messageId"] for document in await harness.documents()]


async def users(harness: Harness, source: Connection) -> list[str]:
    identities, _ = await harness.state.identities(source.id, first=0, limit=1000)
    return sorted(each.user_id or "" for each in identities)


def back_up(database: Path, copy: Path) -> None:
    with closing(sqlite3.connect(database)) as from_, closing(sqlite3.connect(copy)) as to:
        from_.backup(to)


def put_back(copy: Path, database: Path) -> None:
    for path in database.parent.glob(f"{database.name}*"):
        path.unlink()
    shutil.copyfile(copy, database)


@pytest.mark.parametrize("stores", [("state", "warehouse"), ("state",)], ids=["both stores", "the state store"])
async def test_stores_restored_from_a_backup_catch_up_from_the_log(tmp_path: Path, stores: tuple[str, ...]) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    async with open_harness(folder) as harness:
        source = await add_source(harness.catalog, harness.workspace)
        await send(harness, source, "a", "b")
        await harness.process_log()
    for store in stores:
        back_up(folder / f"{store}.db", tmp_path / f"{store}.backup")
    async with open_harness(folder) as harness:
        await send(harness, source, "b", "c", "c")
        await harness.process_log()
        await send(harness, source, "a", "d")
        await harness.process_log()
        before = await harness.documents(), await users(harness, source)
    for store in stores:
        put_back(tmp_path / f"{store}.backup", folder / f"{store}.db")
    async with open_harness(folder) as harness:
        if "warehouse" in stores:
            assert await stored(harness) == ["a", "b"]
        await harness.process_log()
        assert (await harness.documents(), await users(harness, source)) == before
        await send(harness, source, "a", "b", "c", "d", "e")
        await harness.process_log()
        assert await stored(harness) == ["a", "b", "c", "d", "e"]
        (entry,) = (await harness.state.messages([(source.id, "c")])).values()
        assert entry.position == 4


async def test_a_message_store_whose_last_write_was_cut_short_accepts_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The power fails while the messages are written: the state store has not committed, and the batch is processed
    again."""
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    record = Transaction.save

    async def power_fails(self: Transaction, *arguments: object) -> None:
        await record(self, *arguments)  # type: ignore[arg-type]  # passed on as they came
        shutil.copytree(before, after)
        raise Unavailable("there is no power")

    async with open_harness(before) as harness:
        source = await add_source(harness.catalog, harness.workspace)
        await send(harness, source, "a", "b")
        await harness.process_log()
        (log,) = (before / "ledger").glob("*.log")
        synced = log.stat().st_size
        await send(harness, source, "b", "c", *(f"many {number}" for number in range(100)))
        monkeypatch.setattr(Transaction, "save", power_fails)
        with pytest.raises(Unavailable, match="no power"):
            await harness.process_log()
        monkeypatch.undo()
    whole = (after / "ledger" / log.name).read_bytes()
    assert len(whole) > synced
    for number, length in enumerate(range(synced, len(whole) + 1, (len(whole) - synced) // 4)):
        torn = tmp_path / f"torn-{number}"
        shutil.copytree(after, torn)
        (torn / "ledger" / log.name).write_bytes(whole[:length])
        async with open_harness(torn) as harness:
            assert await stored(harness) == ["a", "b"]
            await harness.process_log()
            await send(harness, source, "many 7", "c", "a", "b", "new")
            await harness.process_log()
            assert await stored(harness) == ["a", "b", "c", *(f"many {number}" for number in range(100)), "new"]


async def test_a_log_that_is_older_than_the_warehouse_goes_on_after_it(tmp_path: Path) -> None:
    """The lost entries were processed already, and further calls get unused positions."""
    folder, copy = tmp_path / "data", tmp_path / "log.backup"
    folder.mkdir()
    async with open_harness(folder) as harness:
        source = await add_source(harness.catalog, harness.workspace)
        await send(harness, source, "a")
        await harness.process_log()
    back_up(folder / "log.db", copy)
    async with open_harness(folder) as harness:
        await send(harness, source, "b", "c")
        await harness.process_log()
    put_back(copy, folder / "log.db")
    async with open_harness(folder) as harness:
        await send(harness, source, "c", "d")
        await harness.process_log()
        assert await stored(harness) == ["a", "b", "c", "d"]
