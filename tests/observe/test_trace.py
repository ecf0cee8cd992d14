"""The trace of a message at every stage of its processing."""

import asyncio
import json
import tracemalloc
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater.base.errors import TooManyRequests
from headwater.catalog import Connection, Definition, TransformationDefinition
from headwater.filters import Condition, Filter
from headwater.log import LogEntry, SqliteEventLog, StoredEntry
from headwater.management.pipelines import UpdatePipeline, update_pipeline
from headwater.observe import trace as module
from headwater.observe.trace import TracedArrival, Tracer, wait_for_outcomes
from headwater.processing.batch import Batch, read_batch
from headwater.schemas import parse_schema
from tests.harness import Harness, add_source, add_workspace, open_harness

EMAIL = parse_schema(
    '{"kind":"object","properties":[{"name":"email","type":{"kind":"string","maxLength":20},"readOptional":true}]}'
)


def event(message_id: str | None = "m", **members: Any) -> dict[str, Any]:
    return {
        "type": "track",
        "event": "E",
        "userId": "u",
        **({"messageId": message_id} if message_id else {}),
        **members,
    }


async def send(harness: Harness, source: Connection, *events: dict[str, Any]) -> None:
    await harness.send(source, json.dumps({"batch": events}).encode())


async def traced(harness: Harness, message_id: str = "m", workspace: int | None = None) -> list[TracedArrival]:
    return await Tracer(harness.state, harness.log, harness.deliveries).trace(
        workspace or harness.workspace, message_id, harness.catalog
    )


async def test_from_pending_to_processed_to_duplicate(harness: Harness, source: Connection) -> None:
    assert await traced(harness) == []
    await send(harness, source, event("other"), event())
    [pending] = await traced(harness)
    assert (pending.connection, pending.position, pending.outcome, pending.steps) == (source.id, 2, "Pending", ())
    await harness.process_log()
    [processed] = await traced(harness)
    assert (processed.position, processed.outcome, processed.received_at) == (2, "Processed", pending.received_at)
    steps = {(step.pipeline, step.connection, step.step, step.outcome) for step in processed.steps}
    assert steps == {(pipeline.id, source.id, "Finalize", "Passed") for pipeline in source.pipelines}
    await send(harness, source, event())
    await harness.process_log()
    assert [(each.position, each.outcome, each.duplicates) for each in await traced(harness)] == [
        (2, "Processed", 1),
        (3, "Duplicate", 0),
    ]


async def test_a_rejected_event_is_traced_with_its_reason(harness: Harness, source: Connection) -> None:
    await send(harness, source, {"type": "track", "messageId": "m"}, {"type": "track", "messageId": 5})
    await harness.process_log()
    [rejected] = await traced(harness)
    assert (rejected.position, rejected.outcome, rejected.message) == (
        1,
        "Rejected",
        "event is required in a track event",
    )
    assert [each.outcome for each in await traced(harness, "5")] == ["Rejected"]


async def test_what_pipelines_held_back_and_could_not_transform(harness: Harness, source: Connection) -> None:
    storing, seeing = sorted(source.pipelines, key=lambda pipeline: pipeline.target)
    filter_ = Filter("and", (Condition("event", "is", ("Other",)),))
    change = UpdatePipeline(name="E", enabled=True, filter=filter_)
    await update_pipeline(harness.catalog, harness.workspace, storing.id, change)
    mapping = Definition(transformation=TransformationDefinition(mapping={"email": "traits.email"}))
    change = UpdatePipeline(name="U", enabled=True, out_schema=EMAIL, definition=mapping)
    await update_pipeline(harness.catalog, harness.workspace, seeing.id, change)
    await send(harness, source, event(context={"traits": {"email": "much-longer-than-twenty@example.com"}}))
    await harness.process_log()
    [processed] = await traced(harness)
    filtered, failed = processed.steps
    assert (filtered.pipeline, filtered.step, filtered.outcome) == (storing.id, "Filter", "Filtered")
    assert (failed.pipeline, failed.step, failed.outcome) == (seeing.id, "Transformation", "Failed")
    assert "email" in failed.message


async def test_sources_of_one_workspace_only(harness: Harness, source: Connection) -> None:
    second = await add_source(harness.catalog, harness.workspace)
    elsewhere = await add_workspace(harness.catalog, "Elsewhere")
    foreign = await add_source(harness.catalog, elsewhere.id)
    for each in (source, second, foreign):
        await send(harness, each, event())
    assert [each.connection for each in await traced(harness)] == [source.id, second.id]
    await harness.process_log()
    assert [each.connection for each in await traced(harness)] == [source.id, second.id]
    assert [each.connection for each in await traced(harness, workspace=elsewhere.id)] == [foreign.id]


@pytest.mark.parametrize("message_id", ["Größe", "😀", 'quo"te', "back\\slash", "a/b", "tab\t", "x" * 1000])
async def test_an_id_that_json_writes_in_several_ways(tmp_path: Path, message_id: str) -> None:
    async with open_harness(tmp_path) as harness:
        source = await add_source(harness.catalog, harness.workspace)
        text = json.dumps(message_id).replace("/", "\\/")
        await harness.send(source, b'{"batch":[{"type":"page","userId":"u","messageId":%s}]}' % text.encode())
        assert [each.outcome for each in await traced(harness, message_id)] == ["Pending"]
        await harness.process_log()
        assert [each.outcome for each in await traced(harness, message_id)] == ["Processed"]
        assert await traced(harness, message_id + "?") == []


async def test_an_id_that_the_server_made(harness: Harness, source: Connection) -> None:
    receipt = await harness.send(source, json.dumps({"batch": [event(None), event("given"), event(None)]}).encode())
    made = [receipt.message_id(index) for index in range(3)]
    assert made[1] == "given"
    for index in (0, 2):
        [pending] = await traced(harness, made[index] or "")
        assert (pending.position, pending.outcome) == (index + 1, "Pending")
    await harness.process_log()
    documents = [msgspec.json.decode(document)["messageId"] for document in await harness.documents()]
    assert documents == made


async def test_only_so_much_of_the_log_is_looked_through(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", 1)
    await send(harness, source, event("a"))
    await send(harness, source, event("b"))
    assert [each.outcome for each in await traced(harness, "a")] == ["Pending"]
    assert await traced(harness, "b") == []


async def test_the_outcome_of_each_event_of_a_call(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.observe.trace.WAIT_SECONDS", 0)
    await send(harness, source, event("a"))
    await harness.process_log()
    batch = [event("a"), event("b"), {"type": "track"}, event(None), event("b")]
    receipt = await harness.send(source, json.dumps({"batch": batch}).encode())
    ids = [receipt.message_id(index) for index in range(len(batch))]
    asked = (receipt.connection, receipt.position, ids, harness.state)
    assert await wait_for_outcomes(*asked) == ["Pending", "Pending", None, "Pending", "Pending"]
    await harness.process_log()
    assert await wait_for_outcomes(*asked) == ["Duplicate", "Processed", None, "Processed", "Duplicate"]


async def test_an_unreadable_entry_hides_no_other_entry(harness: Harness, source: Connection) -> None:
    await harness.log.append(LogEntry(1, b"no header", b'"m"'))
    await send(harness, source, event())
    assert [each.outcome for each in await traced(harness)] == ["Pending"]


class CountedLog:
    """The log, and how often it was read and how many read it at the same time."""

    def __init__(self, log: SqliteEventLog) -> None:
        self._log = log
        self.reads = 0
        self.most = 0
        self._reading = 0

    async def read(self, after: int, *, max_bytes: int, wait: timedelta) -> list[StoredEntry]:
        self.reads += 1
        self._reading += 1
        self.most = max(self.most, self._reading)
        try:
            return await self._log.read(after, max_bytes=max_bytes, wait=wait)
        finally:
            self._reading -= 1


async def test_callers_share_a_scan_of_the_backlog(harness: Harness, source: Connection) -> None:
    """A asks twelve times while a backlog waits, B once: the log is read twice, and the results are right."""
    elsewhere = await add_workspace(harness.catalog, "B")
    theirs = await add_source(harness.catalog, elsewhere.id)
    for index in range(20):
        await send(harness, source, event(f"m{index}"))
    await send(harness, theirs, event("m3"))
    log = CountedLog(harness.log)
    tracer = Tracer(harness.state, log, harness.deliveries)  # type: ignore[arg-type]  # it only reads
    asked = [tracer.trace(harness.workspace, f"m{index}", harness.catalog) for index in range(12)]
    *ours, others = await asyncio.gather(*asked, tracer.trace(elsewhere.id, "m3", harness.catalog))
    assert [[each.connection for each in arrived] for arrived in ours] == [[source.id]] * 12
    assert [each.connection for each in others] == [theirs.id]
    assert (log.reads <= 2, log.most) == (True, 1)


async def test_what_came_after_a_scan_began_is_seen(harness: Harness, source: Connection) -> None:
    tracer = Tracer(harness.state, harness.log, harness.deliveries)
    first = asyncio.create_task(tracer.trace(harness.workspace, "m", harness.catalog))
    await asyncio.sleep(0)
    await send(harness, source, event())
    assert [each.outcome for each in await tracer.trace(harness.workspace, "m", harness.catalog)] == ["Pending"]
    await first


async def test_only_so_many_traces_of_one_workspace_wait(harness: Harness, source: Connection) -> None:
    elsewhere = await add_workspace(harness.catalog, "B")
    theirs = await add_source(harness.catalog, elsewhere.id)
    await send(harness, theirs, event())
    tracer = Tracer(harness.state, harness.log, harness.deliveries)
    flood = [
        asyncio.create_task(tracer.trace(harness.workspace, "m", harness.catalog))
        for _ in range(module.MAX_WAITING + 5)
    ]
    answer = await tracer.trace(elsewhere.id, "m", harness.catalog)
    assert [each.connection for each in answer] == [theirs.id]
    ended = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(each, TooManyRequests) for each in ended) == 5
    assert [each for each in ended if not isinstance(each, TooManyRequests)] == [[]] * module.MAX_WAITING


async def test_a_failed_scan_fails_its_callers_and_no_other(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(harness, source, event())
    tracer = Tracer(harness.state, harness.log, harness.deliveries)
    with monkeypatch.context() as patch:
        patch.setattr(module, "decode_envelope", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await tracer.trace(harness.workspace, "m", harness.catalog)
    cancelled = asyncio.create_task(tracer.trace(harness.workspace, "m", harness.catalog))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert [each.outcome for each in await tracer.trace(harness.workspace, "m", harness.catalog)] == ["Pending"]


async def test_only_so_much_is_decoded_and_held(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call of A may hold the message, as each has an escape. Few are decoded, and memory follows one scan."""
    monkeypatch.setattr(module, "MAX_DECODED_BYTES", 50_000)
    decoded: list[int] = []

    def counted(entries: list[StoredEntry]) -> Batch:
        decoded.append(sum(stored.entry.size for stored in entries))
        return read_batch(entries)

    monkeypatch.setattr(module, "read_batch", counted)
    for _ in range(30):
        await send(harness, source, event("\u00e9", properties={"p": "x" * 20_000}))
    tracer = Tracer(harness.state, harness.log, harness.deliveries)

    async def peak(callers: int) -> int:
        tracemalloc.start()
        await asyncio.gather(*(tracer.trace(harness.workspace, "nosuch", harness.catalog) for _ in range(callers)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    await peak(1)
    one, many = await peak(1), await peak(module.MAX_WAITING)
    assert decoded and max(decoded) < 50_000 + 25_000
    assert many < 2 * one + 200_000


async def test_a_time_that_could_not_be_read_is_noted(harness: Harness, source: Connection) -> None:
    await send(harness, source, event(timestamp="soon"))
    await harness.process_log()
    [found] = await traced(harness)
    assert found.outcome == "Processed"
    [note, *others] = found.steps
    assert (note.pipeline, note.step, note.outcome) == (0, "Receive", "Passed")
    assert "timestamp" in note.message
    assert {step.pipeline for step in others} == {pipeline.id for pipeline in source.pipelines}


async def test_a_note_is_no_pipeline(harness: Harness) -> None:
    """A source without a pipeline reports that, together with any note about the event."""
    source = await add_source(harness.catalog, harness.workspace, events=None, users=())
    await send(harness, source, event(timestamp="soon"))
    await harness.process_log()
    [found] = await traced(harness)
    assert (found.outcome, len(found.steps)) == ("NoPipeline", 1)
