"""One process deletes outdated data, and data of deleted objects."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path

import pytest

from headwater.base.errors import Unavailable
from headwater.base.identifiers import Identifiers
from headwater.base.metrics import NO_METRICS, Metrics
from headwater.catalog import Connection, open_catalog
from headwater.management.connections import delete_connection
from headwater.management.pipelines import delete_pipeline
from headwater.processing import janitor as module
from headwater.processing import make_consumer
from headwater.processing.janitor import Janitor
from headwater.state import Transaction
from headwater.state.importruns import ImportRun
from headwater.state.runprogress import RunTaken
from headwater.state.runs import RunProgress
from headwater.storage.database import sqlite_url
from tests.harness import Harness, add_source


class JanitorErrors(Metrics):
    """Records the errors of the janitor."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def janitor_failed(self, error: str) -> None:
        self.errors.append(error)


def janitor(harness: Harness, *, keep: timedelta = timedelta(hours=1), metrics: Metrics = NO_METRICS) -> Janitor:
    return Janitor(
        harness.log, harness.catalog, harness.state, harness.warehouse, harness.clock, keep=keep, metrics=metrics
    )


async def send(harness: Harness, source: Connection, *types: str) -> None:
    """Send a call for each type of event."""
    for type_ in types:
        event = {"type": type_, "event": "e", "userId": "u"}
        await harness.send(source, json.dumps({"batch": [event]}).encode())


async def finish(harness: Harness) -> None:
    """Process all that is in the log, and tell the log."""
    await harness.process_log()
    lease = await harness.log.lease("warehouse")
    await lease.advance(await harness.log.last_position())
    await lease.release()


async def test_it_trims_entries_that_are_finished_and_old_enough(harness: Harness, source: Connection) -> None:
    await send(harness, source, "track", "track", "track")
    harness.clock.advance(1)
    await janitor(harness, keep=timedelta(0)).clean()
    assert len(await harness.log_entries()) == 3, "nobody has finished them"
    await finish(harness)
    await janitor(harness, keep=timedelta(seconds=2)).clean()
    assert len(await harness.log_entries()) == 3, "they are kept for two seconds"
    await janitor(harness, keep=timedelta(0)).clean()
    assert [stored.position for stored in await harness.log_entries()] == [3], "the newest entry stays"


async def test_it_removes_identities_of_deleted_pipelines(harness: Harness, source: Connection) -> None:
    cleaning = janitor(harness)
    await send(harness, source, "track")
    await harness.process_log()
    await cleaning.clean()
    assert (await harness.state.identities(source.id, first=0, limit=10))[1] == 1
    (users,) = [pipeline.id for pipeline in source.pipelines if pipeline.target == "User"]
    await delete_pipeline(harness.catalog, harness.workspace, users)
    await cleaning.clean()
    assert (await harness.state.identities(source.id, first=0, limit=10))[1] == 0


async def test_it_removes_what_belongs_to_a_deleted_connection(harness: Harness, source: Connection) -> None:
    await send(harness, source, "no such type")
    await harness.process_log()
    await delete_connection(harness.catalog, harness.workspace, source.id)
    cleaning = janitor(harness)
    for _ in range(3):  # some are removed at a time
        await cleaning.clean()
    assert await harness.state.rejection_counts(harness.workspace, connection_id=None) == []
    assert await harness.state.latest_call(source.id) is None


async def test_it_removes_what_is_processed_long_after_its_connection_was_deleted(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    cleaning = janitor(harness)
    await send(harness, source, "track")
    await delete_connection(harness.catalog, harness.workspace, source.id)
    await cleaning.clean()
    await harness.process_log()
    assert await harness.state.latest_call(source.id) is not None
    monkeypatch.setattr(module, "SWEEP_SECONDS", 0.0)
    await cleaning.clean()
    assert await harness.state.latest_call(source.id) is None


@pytest.mark.parametrize("error", [Unavailable("away"), ValueError("a bug")], ids=repr)
async def test_it_counts_an_error_and_tries_again(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(module, "CLEAN_SECONDS", 0.0)
    trim_messages, failures = Transaction.trim_messages, [error, error]
    trimmed, stop = asyncio.Event(), asyncio.Event()

    async def failing(self: Transaction) -> None:
        if failures:
            raise failures.pop()
        await trim_messages(self)
        trimmed.set()

    monkeypatch.setattr(Transaction, "trim_messages", failing)
    metrics = JanitorErrors()
    cleaning = asyncio.create_task(janitor(harness, metrics=metrics).run(stop))
    await asyncio.wait_for(trimmed.wait(), 20)
    stop.set()
    await asyncio.wait_for(cleaning, 20)
    assert metrics.errors == [type(error).__name__] * 2


async def test_only_the_process_with_the_lease_cleans(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLEAN_SECONDS", 0.0)
    held: list[bool] = []
    cleaned, stop = asyncio.Event(), asyncio.Event()

    async def clean(self: Janitor) -> None:
        held.append(lease.held)
        cleaned.set()

    monkeypatch.setattr(Janitor, "clean", clean)
    lease = await harness.log.lease("warehouse")
    consumer = make_consumer(
        harness.log, harness.catalog, harness.state, harness.warehouse, harness.clock, keep=timedelta(hours=1)
    )
    task = asyncio.create_task(consumer.run(stop))
    done, _ = await asyncio.wait([task], timeout=0.1)
    assert not done
    await lease.release()
    await asyncio.wait_for(cleaned.wait(), 20)
    stop.set()
    await asyncio.wait_for(task, 20)
    assert not any(held), "it began after the lease of another process had ended"


async def test_data_of_a_source_that_is_created_meanwhile_stays(harness: Harness, tmp_path: Path) -> None:
    """The janitor waits for a batch that processes events of objects which it has not seen."""
    url = harness.database_url or sqlite_url(tmp_path / "catalog.db")
    async with open_catalog(url, clock=harness.clock, identifiers=Identifiers()) as catalog:
        source = await add_source(harness.catalog, harness.workspace)
        await send(harness, source, "track")
        cleaning = Janitor(
            harness.log, catalog, harness.state, harness.warehouse, harness.clock, keep=timedelta(hours=1)
        )
        async with harness.state.transaction():
            running = asyncio.create_task(cleaning.clean())
            await asyncio.sleep(0.1)  # it waits for this transaction, and can have read the catalog before
            newer = await add_source(harness.catalog, harness.workspace)
            await send(harness, newer, "track")
            processing = asyncio.create_task(harness.process_log())
            await asyncio.sleep(0.1)
        await asyncio.gather(running, processing)
        await cleaning.clean()
    for each in (source, newer):
        assert (await harness.state.identities(each.id, first=0, limit=10))[1] == 1


async def test_it_ends_imports_of_deleted_pipelines(harness: Harness, source: Connection) -> None:
    (users,) = [pipeline.id for pipeline in source.pipelines if pipeline.target == "User"]
    run = ImportRun(harness.state, 1, 1, users)
    await run.take(b"digest")
    await run.complete(b"digest", cursor=5, position=b"x", progress=RunProgress())
    cleaning = janitor(harness)
    await cleaning.clean()
    assert (await run.take(b"digest"))[1] == 5
    await delete_pipeline(harness.catalog, harness.workspace, users)
    await cleaning.clean()
    assert await harness.state.run_progress(1) is None
    with pytest.raises(RunTaken):
        await run.save(cursor=None, position=b"x", progress=RunProgress())
