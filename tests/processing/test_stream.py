"""From the log to the warehouse: each message once, through the pipelines of its source, after any failure."""

import asyncio
import json
import os
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import SQLAlchemyError

from headwater.base.errors import Unavailable
from headwater.base.metrics import Metrics
from headwater.catalog import Connection
from headwater.events import Envelope, Rejection
from headwater.events.protocol import encode_envelope
from headwater.log import Consumer, Limits, LogEntry
from headwater.management.connections import delete_connection
from headwater.management.pipelines import set_pipeline_status
from headwater.processing import make_consumer
from headwater.processing.batch import Batch
from headwater.state import MessageStates, Transaction
from headwater.storage.database import open_engine
from headwater.warehouse import StoredEvent
from tests.forked import start_program
from tests.harness import Harness, add_source, add_workspace, client_call, open_harness
from tests.processing import consuming


def event(message: str | None = None, type_: str = "track", **members: Any) -> dict[str, Any]:
    return {"type": type_, "event": "e", "userId": "u", **({"messageId": message} if message else {}), **members}


async def send(harness: Harness, source: Connection, *events: dict[str, Any]) -> None:
    await harness.send(source, json.dumps({"batch": events}).encode())


async def message_ids(harness: Harness) -> list[str]:
    return [json.loads(document)["messageId"] for document in await harness.documents()]


async def identities(harness: Harness, source: Connection) -> set[tuple[str | None, tuple[str, ...], int]]:
    found, total = await harness.state.identities(source.id, first=0, limit=1000)
    assert total == len(found)
    return {(each.user_id, tuple(each.anonymous_ids), each.pipeline) for each in found}


async def rejected(harness: Harness, workspace: int | None = None) -> list[tuple[int, str]]:
    chosen = harness.workspace if workspace is None else workspace
    rows, _ = await harness.state.rejected(chosen, connection_id=None, protocol=None, first=0, limit=1000)
    return [(row.position, row.code) for row in rows]


def user_pipelines(source: Connection) -> list[int]:
    return [pipeline.id for pipeline in source.pipelines if pipeline.target == "User"]


# --- Once ---------------------------------------------------------------------------------------------------------


async def test_an_event_is_stored_and_its_user_known(harness: Harness, source: Connection) -> None:
    await send(harness, source, event("m1", anonymousId="a"))
    await harness.process_log()
    (document,) = map(json.loads, await harness.documents())
    assert (document["messageId"], document["connectionId"], document["userId"]) == ("m1", source.id, "u")
    assert await identities(harness, source) == {("u", ("a",), user_pipelines(source)[0])}
    assert await harness.state.position("warehouse") == 1


async def test_duplicates_within_a_call_and_across_calls_are_stored_once(harness: Harness, source: Connection) -> None:
    await send(harness, source, event("a", n=1), event("b", n=1), event("a", n=2))
    await send(harness, source, event("b", n=3), event("c", n=3))
    await harness.process_log()
    await send(harness, source, event("a", n=4), event("d", n=4))
    await harness.process_log()
    stored = {document["messageId"]: document["n"] for document in map(json.loads, await harness.documents())}
    assert stored == {"a": 1, "b": 1, "c": 3, "d": 4}


async def test_duplicates_across_a_restart_are_stored_once(tmp_path: Path, database_url: str | None) -> None:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        source = await add_source(harness.catalog, harness.workspace)
        await send(harness, source, event("a"))
        await harness.process_log()
    async with open_harness(tmp_path, database_url=database_url) as harness:
        await send(harness, source, event("a"), event("b"))
        await harness.process_log()
        assert await message_ids(harness) == ["a", "b"]


async def test_a_duplicate_leads_to_nothing_at_all(harness: Harness, source: Connection) -> None:
    await send(harness, source, event("a", userId="u"))
    await send(harness, source, event("a", userId="v", anonymousId="x"))
    await harness.process_log()
    assert {user for user, _, _ in await identities(harness, source)} == {"u"}


async def test_one_message_id_in_two_connections_is_two_events(harness: Harness, source: Connection) -> None:
    other = await add_source(harness.catalog, harness.workspace)
    await send(harness, source, event("a"))
    await send(harness, other, event("a"))
    await harness.process_log()
    assert {json.loads(document)["connectionId"] for document in await harness.documents()} == {source.id, other.id}


async def test_events_without_a_message_id_are_all_stored(harness: Harness, source: Connection) -> None:
    for _ in range(3):
        await send(harness, source, event(), event())
    await harness.process_log()
    assert len(set(await message_ids(harness))) == 6


# --- Pipelines ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "users", "stored", "known"),
    [
        (True, (True,), 1, 1),
        (False, (True,), 0, 1),
        (True, (False,), 1, 0),
        (True, (), 1, 0),
        (None, (True, True), 0, 2),
        (None, (True, False), 0, 1),
        (None, (), 0, 0),
        (False, (False,), 0, 0),
    ],
)
async def test_enabled_pipelines_do_their_part(
    harness: Harness, events: bool | None, users: tuple[bool, ...], stored: int, known: int
) -> None:
    source = await add_source(harness.catalog, harness.workspace, events=events, users=users)
    await send(harness, source, event("a"))
    await harness.process_log()
    assert len(await harness.documents()) == stored
    assert len(await identities(harness, source)) == known
    assert await harness.state.position("warehouse") == 1


async def test_a_pipeline_that_another_process_disabled_does_nothing(harness: Harness, source: Connection) -> None:
    async with open_harness(harness.folder, database_url=harness.database_url) as other:
        for pipeline in source.pipelines:
            await set_pipeline_status(other.catalog, harness.workspace, pipeline.id, enabled=False)
    await send(harness, source, event("a"))
    await harness.process_log()
    assert (await harness.documents(), await identities(harness, source)) == ([], set())


async def test_events_of_a_deleted_connection_are_passed_over(harness: Harness, source: Connection) -> None:
    await send(harness, source, event("a"), {"type": "track"})
    await delete_connection(harness.catalog, harness.workspace, source.id)
    await harness.process_log()
    assert (await harness.documents(), await identities(harness, source)) == ([], set())
    assert await rejected(harness) == [(2, "BadRequest")]
    assert await harness.state.position("warehouse") == 2


async def test_an_event_belongs_to_the_workspace_of_its_source(harness: Harness, source: Connection) -> None:
    workspace = await add_workspace(harness.catalog, "Other")
    other = await add_source(harness.catalog, workspace.id)
    await send(harness, other, event("a"))
    await harness.process_log()
    assert await harness.documents() == []
    assert len(await harness.list_events(workspace.id)) == 1


@pytest.mark.parametrize(
    ("sent", "identity"),
    [
        (event(anonymousId="a"), ("u", ("a",))),
        (event(userId=None, anonymousId="a"), (None, ("a",))),
        (event(type_="identify", userId=None, traits={"email": "a@b.c"}), ("a@b.c", ())),
        (event(type_="identify", userId=None, anonymousId="a", traits={"email": "a@b.c"}), (None, ("a",))),
        (event(type_="identify", traits={"email": "a@b.c"}), ("u", ())),
        (event(type_="group", userId=None, groupId="g"), None),
        (event(userId=None, groupId="g"), None),
        (event(type_="alias", previousId="p"), ("u", ("p",))),
        (event(type_="alias", previousId="u"), ("u", ())),
    ],
    ids=str,
)
async def test_who_is_seen_in_an_event(
    harness: Harness, source: Connection, sent: dict[str, Any], identity: tuple[str | None, tuple[str, ...]] | None
) -> None:
    await send(harness, source, sent)
    await harness.process_log()
    assert [found[:2] for found in await identities(harness, source)] == ([] if identity is None else [identity])
    assert len(await harness.documents()) == 1


async def test_an_alias_joins_two_ids_and_leaves_what_is_known(harness: Harness, source: Connection) -> None:
    await send(harness, source, event(userId=None, anonymousId="a"), event(userId="old"))
    await harness.process_log()
    await send(harness, source, event(type_="alias", previousId="a"), event(type_="alias", previousId="old"))
    await harness.process_log()
    assert [found[:2] for found in await identities(harness, source)] == [("u", ("a",))]


@pytest.mark.parametrize("together", [True, False])
async def test_an_alias_of_the_client_api_works_once(harness: Harness, source: Connection, together: bool) -> None:
    async def call(name: str, body: str) -> None:
        key = source.event_write_keys[0]
        await harness.intake.accept(client_call(call=name, body=body.encode(), key=key))
        if not together:
            await harness.process_log()

    await call("events", '[{"anonymous_id":"a"},{"anonymous_id":"b"}]')
    await call("alias", '{"anonymous_id":"a","external_id":"E"}')
    await call("alias", '{"anonymous_id":"b","external_id":"E"}')
    await call("alias", '{"anonymous_id":"a","external_id":"F"}')
    await call("alias", '{"anonymous_id":"nobody","external_id":"G"}')
    await call("alias", '{"anonymous_id":"b","external_id":""}')
    await harness.process_log()
    assert {found[:2] for found in await identities(harness, source)} == {("E", ("a",)), (None, ("b",))}
    assert len(await harness.documents()) == 7, "all of them are acknowledged, and stored"


async def test_rejected_events_are_kept_and_their_neighbours_stored(harness: Harness, source: Connection) -> None:
    await send(harness, source, event("a"), {"type": "track"}, event("b"))
    rejection = Rejection("Unauthorized", "", "the write key is not known")
    await harness.log.append(
        LogEntry(1, encode_envelope(Envelope("track", "batch", 0, 0, 0, b"", rejection=rejection)), b"{")
    )
    await harness.process_log()
    assert await message_ids(harness) == ["a", "b"]
    assert await rejected(harness) == [(2, "BadRequest")]
    assert await rejected(harness, 0) == [(4, "Unauthorized")]


# --- Crashes ------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def failing(harness: Harness, table: str, what: str) -> AsyncIterator[None]:
    """The database itself rejects writes to a table: it rolls back the statement, or the whole transaction."""
    if harness.database_url is None:
        name = "event_rows" if table == "events" else table
        with failing_sqlite(harness.folder / f"{_store(table)}.db", name, what):
            yield
        return
    # In PostgreSQL an error leaves the transaction to be undone, and the end of the connection undoes it.
    refuse = "RAISE 'refused'" if what == "ABORT" else "PERFORM pg_terminate_backend(pg_backend_pid())"
    function = f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {refuse}; END $$"
    engine = open_engine(harness.database_url, schema=_store(table))
    try:
        async with engine.begin() as connection:
            await connection.exec_driver_sql(function)
            await connection.exec_driver_sql(
                f"CREATE TRIGGER refuse BEFORE INSERT OR UPDATE ON {table} EXECUTE FUNCTION refuse()"
            )
        yield
        async with engine.begin() as connection:
            await connection.exec_driver_sql("DROP FUNCTION refuse CASCADE")
    finally:
        await engine.dispose()


def _store(table: str) -> str:
    """Return the store, a file or a schema, that has the table."""
    return "warehouse" if table in ("events", "loaded") else "state"


@contextmanager
def failing_sqlite(state: Path, table: str, what: str) -> Iterator[None]:
    verbs = ("INSERT", "UPDATE")
    with closing(sqlite3.connect(state)) as connection:
        for verb in verbs:
            refuse = f"BEGIN SELECT RAISE({what}, 'refused'); END"
            connection.execute(f"CREATE TRIGGER refuse_{verb} BEFORE {verb} ON {table} {refuse}")
        connection.commit()
        yield
        for verb in verbs:
            connection.execute(f"DROP TRIGGER refuse_{verb}")
        connection.commit()


async def everything(harness: Harness, source: Connection) -> tuple[object, ...]:
    return (
        await harness.documents(),
        await identities(harness, source),
        await rejected(harness),
        await harness.state.position("warehouse"),
    )


@pytest.mark.parametrize("what", ["ABORT", "ROLLBACK"])
@pytest.mark.parametrize("table", ["events", "identities", "rejected_events", "rejection_counts", "checkpoints"])
async def test_a_failure_at_any_step_leaves_nothing_and_the_next_try_does_everything(
    harness: Harness, source: Connection, table: str, what: str
) -> None:
    await send(
        harness,
        source,
        event("a", anonymousId="x"),
        event("b", userId=None, anonymousId="x"),
        event("a"),
        {"type": "track"},
    )
    before = await everything(harness, source)
    async with failing(harness, table, what):
        with pytest.raises((SQLAlchemyError, sqlite3.Error, asyncpg.PostgresError, Unavailable)):
            await harness.process_log()
    assert await everything(harness, source) == before
    await harness.process_log()
    documents, known, rejected, finished = await everything(harness, source)
    assert [json.loads(document)["messageId"] for document in documents] == ["a", "b"]  # type: ignore[attr-defined]  # a list
    assert {each[:2] for each in known} == {("u", ("x",)), (None, ("x",))}  # type: ignore[attr-defined]  # a set
    assert (rejected, finished) == ([(4, "BadRequest")], 4)


async def test_a_crash_before_the_cursor_moves_repeats_nothing(harness: Harness, source: Connection) -> None:
    await send(harness, source, event("a"), event("b"))
    await harness.process_log()
    assert (await harness.log.cursors()).get("warehouse", 0) == 0
    async with running(harness.consumer):
        while (await harness.log.cursors()).get("warehouse", 0) < 2:
            await asyncio.sleep(0.01)
    assert await message_ids(harness) == ["a", "b"]


@pytest.mark.process
async def test_killed_again_and_again_it_stores_everything_once(harness: Harness, source: Connection) -> None:
    """HEADWATER_CRASH_ROUNDS sets how many kills."""
    sent = []
    for number in range(300):
        ids = [f"m{number}-{each}" for each in range(20)] + ["repeated"]
        await send(harness, source, *map(event, ids))
        sent += ids
    for _ in range(int(os.environ.get("HEADWATER_CRASH_ROUNDS", "2"))):
        arguments = [str(harness.folder), *([] if harness.database_url is None else [harness.database_url])]
        process, output = await start_program(consuming.__name__, *arguments)
        assert await output.readline() == b"ready\n"
        await asyncio.sleep(random.uniform(0, 0.2))
        process.kill()
        await output.read()
        process.wait(60)
    small = Limits(batch_bytes=50_000)
    consumer = make_consumer(
        harness.log,
        harness.catalog,
        harness.state,
        harness.warehouse,
        harness.clock,
        keep=timedelta(hours=1),
        limits=small,
    )
    await run(consumer, harness)
    stored = [
        json.loads(document)["messageId"]
        for first in range(0, 7000, 1000)
        for document in await harness.list_events(offset=first)
    ]
    assert stored == list(dict.fromkeys(sent))


# --- The loop -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def running(consumer: Consumer[Batch]) -> AsyncIterator[None]:
    """Run the consumer during the block, and stop it after the block, also after an exception."""
    stop = asyncio.Event()
    task = asyncio.create_task(consumer.run(stop))
    try:
        async with asyncio.timeout(20):
            yield
    finally:
        stop.set()
        await asyncio.wait_for(task, 20)


async def run(consumer: Consumer[Batch], harness: Harness) -> None:
    """Run the consumer until it has finished all that is in the log."""
    last = await harness.log.last_position()
    async with running(consumer):
        while await harness.state.position("warehouse") < last:
            await asyncio.sleep(0.01)


async def test_it_carries_what_comes_while_it_runs(harness: Harness, source: Connection) -> None:
    async with running(harness.consumer):
        for number in range(5):
            await send(harness, source, event(f"m{number}"))
            while len(await harness.documents()) <= number:
                await asyncio.sleep(0.005)
    assert await harness.log.cursors() == {"warehouse": 5}


async def test_it_goes_on_after_an_error_that_no_event_causes(harness: Harness, source: Connection) -> None:
    """The consumer counts and logs the error and retries: no event is rejected, and the process does not end."""
    failed: list[str] = []

    class Counting(Metrics):
        def batch_failed(self, error: str) -> None:
            failed.append(error)

    await send(harness, source, event("a"))
    consumer = make_consumer(
        harness.log,
        harness.catalog,
        harness.state,
        harness.warehouse,
        harness.clock,
        keep=timedelta(hours=1),
        metrics=Counting(),
    )
    async with failing(harness, "events", "ABORT"):
        async with running(consumer):
            while len(failed) < 4:  # the second try has failed, too
                await asyncio.sleep(0.01)
        assert await harness.documents() == []
    async with running(consumer):
        while not await harness.documents():
            await asyncio.sleep(0.01)
    assert await rejected(harness) == []


# --- Events that cannot be processed ---------------------------------------------------------------------------------


@contextmanager
def failing_loads(harness: Harness, fails: Callable[[Sequence[StoredEvent]], bool]) -> Iterator[None]:
    """The warehouse has a bug that shows with some events."""
    kind = type(harness.warehouse)
    load, check = kind.load, kind.check

    async def defective_load(self: Any, events: Sequence[StoredEvent], *, through: int) -> None:
        if fails(events):
            raise ValueError("a defect")
        await load(self, events, through=through)

    async def defective_check(self: Any, events: Sequence[StoredEvent]) -> None:
        if fails(events):
            raise ValueError("a defect")
        await check(self, events)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "load", defective_load)
        patch.setattr(kind, "check", defective_check)
        yield


@pytest.mark.parametrize("culprits", [{"b"}, {"a"}, {"c"}, {"a", "b"}])
async def test_an_event_that_cannot_be_processed_delays_no_other(
    harness: Harness, source: Connection, culprits: set[str]
) -> None:
    """A bug, or a value that the database rejects: the event is stored with the reason, and the other events
    normally."""
    with failing_loads(
        harness, lambda events: any(json.loads(each.document).get("messageId") in culprits for each in events)
    ):
        await send(harness, source, event("a"), event("b"), {"type": "track"}, event("c"), event("c"))
        await harness.process_log()
        assert set(await message_ids(harness)) == {"a", "b", "c"} - culprits
        assert await harness.state.position("warehouse") == 5
        rows, _ = await harness.state.rejected(harness.workspace, connection_id=None, protocol=None, first=0, limit=10)
        defects = {row.message_id for row in rows if row.code == "InternalServerError"}
        assert defects == culprits
        await send(harness, source, event("d"))
        await harness.process_log()
        assert "d" in await message_ids(harness)


async def test_no_event_is_rejected_if_none_can_be_processed(harness: Harness, source: Connection) -> None:
    """Then it is not the events: they wait."""
    with failing_loads(harness, bool):
        await send(harness, source, event("a"), event("b"))
        with pytest.raises(ValueError, match="a defect"):
            await harness.process_log()
        assert await harness.state.position("warehouse") == 0
    await harness.process_log()
    assert await message_ids(harness) == ["a", "b"]


async def test_a_crash_between_the_messages_and_the_commit_loses_and_repeats_nothing(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RocksDB has the messages then, and the warehouse has not their events."""
    record = Transaction.save

    async def recorded_and_cut(self: Transaction, entries: MessageStates) -> None:
        await record(self, entries)
        raise Unavailable("the process ends here")

    await send(harness, source, event("a"), event("b"), event("a"))
    with monkeypatch.context() as crashing:
        crashing.setattr(Transaction, "save", recorded_and_cut)
        with pytest.raises(Unavailable):
            await harness.process_log()
    assert await message_ids(harness) == []
    await harness.process_log()
    assert await message_ids(harness) == ["a", "b"]
    entries = await harness.state.messages([(source.id, "a"), (source.id, "b")])
    assert {key[1]: (entry.position, entry.repeated) for key, entry in entries.items()} == {"a": (1, 1), "b": (2, 0)}


async def test_a_crash_between_the_warehouse_and_the_state_store_stores_everything_once(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The warehouse has the events then, and the state store has not their position: the batch comes again, larger."""
    kind = type(harness.warehouse)
    load = kind.load

    async def loaded_and_cut(self: Any, events: Sequence[StoredEvent], *, through: int) -> None:
        await load(self, events, through=through)
        raise Unavailable("the process ends here")

    await send(harness, source, event("a"), event("b"), event("a"))
    with monkeypatch.context() as crashing:
        crashing.setattr(kind, "load", loaded_and_cut)
        with pytest.raises(Unavailable):
            await harness.process_log()
    assert (await harness.warehouse.loaded(), await harness.state.position("warehouse")) == (3, 0)
    await send(harness, source, event("c"), event("b"))
    await harness.process_log()
    assert await message_ids(harness) == ["a", "b", "c"]
    assert (await harness.warehouse.loaded(), await harness.state.position("warehouse")) == (5, 5)
