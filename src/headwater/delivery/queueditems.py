"""Prepares the items of a chunk, by their pipelines."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from headwater.base.errors import Unavailable
from headwater.delivery.preparing import PreparationDelayed, Prepared, Preparer, SourceEvent
from headwater.events.record import RecordReader
from headwater.state.deliveries import ChunkItem

RETRY_SECONDS: Final = 1.0
"""Wait after an outage of the sandboxes."""

_log = structlog.get_logger(__name__)


def source_events(items: Sequence[ChunkItem], records: RecordReader) -> list[SourceEvent]:
    """Return the event of each item. Items of one event share it, so that it is decoded once."""
    if len({item.pipeline for item in items}) == 1:
        return [SourceEvent(item.event.document, records) for item in items]
    events: dict[int, SourceEvent] = {}
    sources = []
    for item in items:
        source = events.get(item.event.position)
        if source is None:
            source = events[item.event.position] = SourceEvent(item.event.document, records)
        sources.append(source)
    return sources


async def prepare_items(
    items: Sequence[ChunkItem],
    sources: Sequence[SourceEvent],
    preparers: Mapping[int, Preparer | None],
    destination: int,
) -> list[Prepared]:
    """Return the result for each item, in their order. `preparers` has one for the pipeline of each."""
    places: dict[int, list[int]] = {}
    for place, item in enumerate(items):
        places.setdefault(item.pipeline, []).append(place)
    results: dict[int, Prepared] = {}
    for pipeline, those in places.items():
        preparer = preparers[pipeline]
        assert preparer is not None, "items of disabled pipelines are not prepared"
        wanted = sources if len(places) == 1 else [sources[place] for place in those]
        done = await _prepare_some(preparer, wanted, destination)
        while len(done) < len(wanted):
            done += await _prepare_some(preparer, wanted[len(done) :], destination)
        if len(places) == 1:
            return done
        results.update(zip(those, done, strict=True))
    return [results[place] for place in range(len(items))]


async def _prepare_some(preparer: Preparer, sources: Sequence[SourceEvent], destination: int) -> list[Prepared]:
    """Prepare some of the events, at least one. A function that cannot run at present holds its destination."""
    while True:
        try:
            return await preparer.prepare(sources)
        except PreparationDelayed as delay:
            await asyncio.sleep(delay.seconds)
        except Unavailable as error:
            _log.warning("events of a destination wait", destination=destination, reason=error.message)
            await asyncio.sleep(RETRY_SECONDS)
