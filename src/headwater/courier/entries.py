"""Selects lane entries for a run, and builds results from what the run returns. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from headwater.events.event import decode_event
from headwater.events.record import event_record
from headwater.processing.lanes import LaneResult, LaneResults, encode_results
from headwater.processing.transformer import AttributesJson, Failed, failure
from headwater.schemas import Record
from headwater.state import NO_DOCUMENT, Chunk, Lane, LaneEntry

MAX_RUN_BYTES: Final = 1 << 20
"""Approximate maximum size of the documents of one run."""
MAX_RUN_ENTRIES: Final = 2_000
"""Maximum entries of one run, including those without a document."""
MAX_RESULT_BYTES: Final = 128 << 10
"""Approximate maximum size of one stored result. The worker applies some of them in one transaction."""


def take(chunk: Chunk, after: int, records: int) -> list[LaneEntry]:
    """Return the entries of a chunk after position `after`, with at most `records` documents and at least one entry."""
    taken: list[LaneEntry] = []
    size = 0
    for entry in chunk.entries:
        if entry.position <= after:
            continue
        if entry.document != NO_DOCUMENT:
            size += len(chunk.documents[entry.document])
            if taken and (records <= 0 or size > MAX_RUN_BYTES):
                break
            records -= 1
        taken.append(entry)
        if len(taken) == MAX_RUN_ENTRIES:
            break
    return taken


def read_record(chunk: Chunk, entry: LaneEntry) -> Record | Failed:
    """Return the record of an entry that has a document."""
    try:
        return event_record(decode_event(chunk.documents[entry.document]))
    except Exception as error:
        return failure(error)


def make_results(entries: Sequence[LaneEntry], outcomes: Mapping[int, AttributesJson | Failed]) -> list[LaneResult]:
    """Return the results of entries. `outcomes` are those of entries with a document, by position."""
    results: list[LaneResult] = []
    for entry in entries:
        outcome = outcomes.get(entry.position)
        if isinstance(outcome, Failed):
            results.append(LaneResult(entry, None, str(outcome) or "the transformation failed"))
        else:
            results.append(LaneResult(entry, outcome))
    return results


def payloads(lane: Lane, results: Sequence[LaneResult]) -> Iterator[tuple[int, bytes]]:
    """Yield the results in the form in which they are stored, in pieces, each with the position of its last entry."""
    some: list[LaneResult] = []
    size = 0
    for result in results:
        some.append(result)
        size += len(result.attributes or "") + len(result.error) + _ENTRY_BYTES
        if size >= MAX_RESULT_BYTES or result is results[-1]:
            yield result.entry.position, encode_results(LaneResults(lane.workspace, lane.connection, some))
            some, size = [], 0


_ENTRY_BYTES: Final = 100
"""Approximate size of a result without its attributes."""
