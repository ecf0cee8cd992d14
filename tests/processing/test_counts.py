"""The counts that the worker records: with the batch's effects, once, and of each pipeline."""

import msgspec
import pytest

from headwater.base.clock import microseconds
from headwater.catalog import Connection
from headwater.processing import CONSUMER
from headwater.processing.batch import read_batch
from headwater.state import Transaction
from tests.harness import NOW, Harness, add_source
from tests.processing.test_lanes import COPY, MAPPING, TRACK, add_pipeline, function

DAY = 86_400_000_000
TODAY = microseconds(NOW) // DAY * DAY


async def counts(harness: Harness, pipeline: int) -> list[int]:
    found = await harness.state.pipeline_counts([pipeline], start=TODAY, end=TODAY + DAY, unit_seconds=86_400)
    return found.get(TODAY, [0] * 12)


async def send(harness: Harness, source: Connection, *types: str, **traits: object) -> None:
    events = [
        {"type": type_, "userId": "u", "traits": traits} | ({"event": "e"} if type_ == "track" else {})
        for type_ in types
    ]
    await harness.send(source, msgspec.json.encode({"batch": events}))


@pytest.fixture
async def source(harness: Harness) -> Connection:
    return await add_source(harness.catalog, harness.workspace)


async def test_plain_pipelines(harness: Harness, source: Connection) -> None:
    storing, seeing = (next(p.id for p in source.pipelines if p.target == target) for target in ("Event", "User"))
    await send(harness, source, *["page"] * 5)
    await harness.process_log()
    assert await counts(harness, storing) == [5, 0, 5, 0, 0, 5] + [0] * 6
    assert await counts(harness, seeing) == [5, 0, 5, 5, 5, 5] + [0] * 6


async def test_filters_mappings_and_functions(harness: Harness, source: Connection) -> None:
    filtered = await add_pipeline(harness, source, MAPPING, filter=TRACK)
    copied = await add_pipeline(harness, source, COPY)
    throwing = await add_pipeline(harness, source, function("function transform(e) { throw new Error('no'); }"))
    await send(harness, source, "track", "identify", email="a@example.com")
    await harness.process_log()
    assert await counts(harness, filtered) == [2, 0, 1, 1, 1, 1, 0, 0, 1, 0, 0, 0]
    assert await counts(harness, copied) == [2, 0, 2, 0, 0, 0] + [0] * 6, "they wait for the courier"
    await harness.drain_lanes()
    assert await counts(harness, copied) == [2, 0, 2, 2, 2, 2] + [0] * 6
    assert await counts(harness, throwing) == [2, 0, 2, 0, 0, 0, 0, 0, 0, 2, 0, 0]
    (error,) = await harness.state.pipeline_errors([throwing], start=TODAY, end=TODAY + DAY, step=None, limit=10)
    assert (error.step, error.count, error.last_at) == ("Transformation", 2, microseconds(NOW))
    assert "no" in error.message


async def test_duplicates_are_not_counted_and_a_batch_counts_once(
    harness: Harness, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    storing = next(pipeline.id for pipeline in source.pipelines if pipeline.target == "Event")
    body = msgspec.json.encode({"batch": [{"type": "page", "userId": "u", "messageId": "same"}] * 2})
    await harness.send(source, body)

    async def crash(*_arguments: object) -> None:
        raise KeyboardInterrupt

    entries = await harness.log_entries(await harness.state.position(CONSUMER))
    with monkeypatch.context() as patch:
        patch.setattr(Transaction, "save", crash)
        with pytest.raises(KeyboardInterrupt):
            await harness.processor.handle(read_batch(entries), after=0)
    assert await counts(harness, storing) == [0] * 12
    await harness.process_log()
    assert await counts(harness, storing) == [1, 0, 1, 0, 0, 1] + [0] * 6
