"""What became of a message, at every stage of its way."""

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
from headwater.log import Frame, SqliteEventLog, StoredFrame
from headwater.filters import Condition, Filter
from headwater.management.pipelines import UpdatePipeline, update_pipeline
from headwater.processing import trace as module
from headwater.processing.batch import Batch, read_batch
from headwater.observe.outcomes import outcomes
from headwater.observe.trace import Arrived, Tracer
from headwater.schemas import parse_schema
from tests.parts import OpenParts, add_source, add_workspace, open_parts

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


async def send(parts: OpenParts, source: Connection, *events: dict[str, Any]) -> None:
    await parts.send(source, json.dumps({"batch": events}).encode())


async def traced(parts: OpenParts, message_id: str = "m", workspace: int | None = None) -> list[Arrived]:
    return await Tracer(parts.warehouse, parts.log).trace(workspace or parts.workspace, message_id, parts.catalog)


async def test_from_pending_to_processed_to_duplicate(parts: OpenParts, source: Connection) -> None:
    assert await traced(parts) == []
    await send(parts, source, event("other"), event())
    [pending] = await traced(parts)
    assert (pending.connection, pending.position, pending.fate, pending.steps) == (source.id, 2, "Pending", ())
    await parts.carry()
    [processed] = await traced(parts)
    assert (processed.position, processed.fate, processed.received_at) == (2, "Processed", pending.received_at)
    steps = {(step.pipeline, step.connection, step.step, step.outcome) for step in processed.steps}
    assert steps == {(pipeline.id, source.id, "Finalize", "Passed") for pipeline in source.pipelines}
    await send(parts, source, event())
    await parts.carry()
    assert [(each.position, each.fate, each.duplicates) for each in await traced(parts)] == [
        (2, "Processed", 1),
        (3, "Duplicate", 0),
    ]


async def test_a_refused_event_is_told_with_its_reason(parts: OpenParts, source: Connection) -> None:
    await send(parts, source, {"type": "track", "messageId": "m"}, {"type": "track", "messageId": 5})
    await parts.carry()
    [rejected] = await traced(parts)
    assert (rejected.position, rejected.fate, rejected.message) == (1, "Rejected", "event is required in a track event")
    assert [each.fate for each in await traced(parts, "5")] == ["Rejected"]


async def test_what_pipelines_held_back_and_could_not_transform(parts: OpenParts, source: Connection) -> None:
    storing, seeing = sorted(source.pipelines, key=lambda pipeline: pipeline.target)
    filter_ = Filter("and", (Condition("event", "is", ("Other",)),))
    change = UpdatePipeline(name="E", enabled=True, filter=filter_)
    await update_pipeline(parts.catalog, parts.workspace, storing.id, change)
    mapping = Definition(transformation=TransformationDefinition(mapping={"email": "traits.email"}))
    change = UpdatePipeline(name="U", enabled=True, out_schema=EMAIL, definition=mapping)
    await update_pipeline(parts.catalog, parts.workspace, seeing.id, change)
    await send(parts, source, event(context={"traits": {"email": "much-longer-than-twenty@example.com"}}))
    await parts.carry()
    [processed] = await traced(parts)
    filtered, failed = processed.steps
    assert (filtered.pipeline, filtered.step, filtered.outcome) == (storing.id, "Filter", "Filtered")
    assert (failed.pipeline, failed.step, failed.outcome) == (seeing.id, "Transformation", "Failed")
    assert "email" in failed.message


async def test_sources_of_one_workspace_only(parts: OpenParts, source: Connection) -> None:
    second = await add_source(parts.catalog, parts.workspace)
    elsewhere = await add_workspace(parts.catalog, "Elsewhere")
    foreign = await add_source(parts.catalog, elsewhere.id)
    for each in (source, second, foreign):
        await send(parts, each, event())
    assert [each.connection for each in await traced(parts)] == [source.id, second.id]
    await parts.carry()
    assert [each.connection for each in await traced(parts)] == [source.id, second.id]
    assert [each.connection for each in await traced(parts, workspace=elsewhere.id)] == [foreign.id]


@pytest.mark.parametrize("message_id", ["Größe", "😀", 'quo"te', "back\\slash", "a/b", "tab\t", "x" * 1000])
async def test_an_id_that_json_writes_in_several_ways(tmp_path: Path, message_id: str) -> None:
    async with open_parts(tmp_path) as parts:
        source = await add_source(parts.catalog, parts.workspace)
        text = json.dumps(message_id).replace("/", "\\/")
        await parts.send(source, b'{"batch":[{"type":"page","userId":"u","messageId":%s}]}' % text.encode())
        assert [each.fate for each in await traced(parts, message_id)] == ["Pending"]
        await parts.carry()
        assert [each.fate for each in await traced(parts, message_id)] == ["Processed"]
        assert await traced(parts, message_id + "?") == []


async def test_an_id_that_the_server_made(parts: OpenParts, source: Connection) -> None:
    receipt = await parts.send(source, json.dumps({"batch": [event(None), event("given"), event(None)]}).encode())
    made = [receipt.message_id(index) for index in range(3)]
    assert made[1] == "given"
    for index in (0, 2):
        [pending] = await traced(parts, made[index] or "")
        assert (pending.position, pending.fate) == (index + 1, "Pending")
    await parts.carry()
    documents = [msgspec.json.decode(document)["messageId"] for document in await parts.documents()]
    assert documents == made


async def test_only_so_much_of_the_log_is_looked_through(
    parts: OpenParts, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING_BYTES", 1)
    await send(parts, source, event("a"))
    await send(parts, source, event("b"))
    assert [each.fate for each in await traced(parts, "a")] == ["Pending"]
    assert await traced(parts, "b") == []


async def test_the_outcome_of_each_event_of_a_call(
    parts: OpenParts, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headwater.observe.outcomes.WAIT_SECONDS", 0)
    await send(parts, source, event("a"))
    await parts.carry()
    batch = [event("a"), event("b"), {"type": "track"}, event(None), event("b")]
    receipt = await parts.send(source, json.dumps({"batch": batch}).encode())
    ids = [receipt.message_id(index) for index in range(len(batch))]
    asked = (receipt.connection, receipt.position, ids, parts.warehouse)
    assert await outcomes(*asked) == ["Pending", "Pending", None, "Pending", "Pending"]
    await parts.carry()
    assert await outcomes(*asked) == ["Duplicate", "Accepted", None, "Accepted", "Duplicate"]


async def test_a_frame_that_cannot_be_read_hides_none_of_the_others(parts: OpenParts, source: Connection) -> None:
    await parts.log.append(Frame(1, b"no header", b'"m"'))
    await send(parts, source, event())
    assert [each.fate for each in await traced(parts)] == ["Pending"]


class CountedLog:
    """The log, and how often it was read and how many read it at the same time."""

    def __init__(self, log: SqliteEventLog) -> None:
        self._log = log
        self.reads = 0
        self.most = 0
        self._reading = 0

    async def read(self, after: int, *, max_bytes: int, wait: timedelta) -> list[StoredFrame]:
        self.reads += 1
        self._reading += 1
        self.most = max(self.most, self._reading)
        try:
            return await self._log.read(after, max_bytes=max_bytes, wait=wait)
        finally:
            self._reading -= 1


async def test_callers_share_a_scan_of_the_backlog(parts: OpenParts, source: Connection) -> None:
    """A asks twelve times while a backlog waits, B once: the log is read twice, and the answers are right."""
    elsewhere = await add_workspace(parts.catalog, "B")
    theirs = await add_source(parts.catalog, elsewhere.id)
    for index in range(20):
        await send(parts, source, event(f"m{index}"))
    await send(parts, theirs, event("m3"))
    log = CountedLog(parts.log)
    tracer = Tracer(parts.warehouse, log)  # type: ignore[arg-type]  # it only reads
    asked = [tracer.trace(parts.workspace, f"m{index}", parts.catalog) for index in range(12)]
    *ours, others = await asyncio.gather(*asked, tracer.trace(elsewhere.id, "m3", parts.catalog))
    assert [[each.connection for each in arrived] for arrived in ours] == [[source.id]] * 12
    assert [each.connection for each in others] == [theirs.id]
    assert (log.reads <= 2, log.most) == (True, 1)


async def test_what_came_after_a_scan_began_is_seen(parts: OpenParts, source: Connection) -> None:
    tracer = Tracer(parts.warehouse, parts.log)
    first = asyncio.create_task(tracer.trace(parts.workspace, "m", parts.catalog))
    await asyncio.sleep(0)
    await send(parts, source, event())
    assert [each.fate for each in await tracer.trace(parts.workspace, "m", parts.catalog)] == ["Pending"]
    await first


async def test_only_so_many_traces_of_one_workspace_wait(parts: OpenParts, source: Connection) -> None:
    elsewhere = await add_workspace(parts.catalog, "B")
    theirs = await add_source(parts.catalog, elsewhere.id)
    await send(parts, theirs, event())
    tracer = Tracer(parts.warehouse, parts.log)
    flood = [
        asyncio.create_task(tracer.trace(parts.workspace, "m", parts.catalog)) for _ in range(module.MAX_WAITING + 5)
    ]
    answer = await tracer.trace(elsewhere.id, "m", parts.catalog)
    assert [each.connection for each in answer] == [theirs.id]
    ended = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(each, TooManyRequests) for each in ended) == 5
    assert [each for each in ended if not isinstance(each, TooManyRequests)] == [[]] * module.MAX_WAITING


async def test_a_failed_scan_fails_its_callers_and_no_other(
    parts: OpenParts, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    await send(parts, source, event())
    tracer = Tracer(parts.warehouse, parts.log)
    with monkeypatch.context() as patch:
        patch.setattr(module, "decode_envelope", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await tracer.trace(parts.workspace, "m", parts.catalog)
    cancelled = asyncio.create_task(tracer.trace(parts.workspace, "m", parts.catalog))
    await asyncio.sleep(0)
    cancelled.cancel()
    assert [each.fate for each in await tracer.trace(parts.workspace, "m", parts.catalog)] == ["Pending"]


async def test_only_so_much_is_decoded_and_held(
    parts: OpenParts, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call of A may hold the message, as each has an escape. Few are decoded, and memory follows one scan."""
    monkeypatch.setattr(module, "MAX_DECODED_BYTES", 50_000)
    decoded: list[int] = []

    def counted(frames: list[StoredFrame]) -> Batch:
        decoded.append(sum(stored.frame.size for stored in frames))
        return read_batch(frames)

    monkeypatch.setattr(module, "read_batch", counted)
    for _ in range(30):
        await send(parts, source, event("\u00e9", properties={"p": "x" * 20_000}))
    tracer = Tracer(parts.warehouse, parts.log)

    async def peak(callers: int) -> int:
        tracemalloc.start()
        await asyncio.gather(*(tracer.trace(parts.workspace, "nosuch", parts.catalog) for _ in range(callers)))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    await peak(1)
    one, many = await peak(1), await peak(module.MAX_WAITING)
    assert decoded and max(decoded) < 50_000 + 25_000
    assert many < 2 * one + 200_000


async def test_a_time_that_could_not_be_read_is_noted(parts: OpenParts, source: Connection) -> None:
    await send(parts, source, event(timestamp="soon"))
    await parts.carry()
    [found] = await traced(parts)
    assert found.fate == "Processed"
    [note, *others] = found.steps
    assert (note.pipeline, note.step, note.outcome) == (0, "Receive", "Passed")
    assert "timestamp" in note.message
    assert {step.pipeline for step in others} == {pipeline.id for pipeline in source.pipelines}


async def test_a_note_is_no_pipeline(parts: OpenParts) -> None:
    """A source without a pipeline says so, whatever is noted of the event."""
    source = await add_source(parts.catalog, parts.workspace, events=None, users=())
    await send(parts, source, event(timestamp="soon"))
    await parts.carry()
    [found] = await traced(parts)
    assert (found.fate, len(found.steps)) == ("NoPipeline", 1)
