"""Deliveries for tests, and the bits of finished items."""

from collections.abc import Iterable, Mapping, Sequence

from headwater.state.deliveries import (
    ChunkProgress,
    DeadLetter,
    NewChunk,
    NewDeliveries,
    QueuedChunk,
    QueuedEvent,
    Wanted,
)

HOUR = 3_600_000_000
WORKSPACE = 7
SOURCE = 1


def event(position: int, *, size: int = 100) -> QueuedEvent:
    document = b'{"n":"%d"}' % position
    return QueuedEvent(
        position, SOURCE, f"m{position}", position * 10, f"u{position % 3}", None, document.ljust(size, b" ")
    )


def deliveries(
    positions: Iterable[int], wanted: Mapping[int, Wanted], *, size: int = 100, workspace: int = WORKSPACE
) -> NewDeliveries:
    """Return deliveries of events at these positions: the wanted events by destination."""
    events = [event(position, size=size) for position in positions]
    return NewDeliveries(
        workspace, events, [NewChunk(destination, workspace, each) for destination, each in wanted.items()]
    )


def items(chunks: Sequence[QueuedChunk]) -> list[tuple[int, int]]:
    """Return the unfinished items as pairs of position and pipeline."""
    return [(item.event.position, item.pipeline) for chunk in chunks for item in chunk.unfinished()]


def bits(indexes: Iterable[int]) -> bytes:
    """Return the bits of these items."""
    done = bytearray(1)
    for index in indexes:
        done += bytes(max(0, index // 8 + 1 - len(done)))
        done[index // 8] |= 1 << index % 8
    return bytes(done)


def progress(chunk: QueuedChunk, indexes: Iterable[int] | None = None) -> ChunkProgress:
    """Return the progress of a chunk of which these items are finished; all of them by default."""
    return ChunkProgress(chunk.id, chunk.destination, bits(range(chunk.item_count) if indexes is None else indexes))


def letter(chunk: QueuedChunk, index: int, *, reason: str = "Rejected", died_at: int = 1) -> DeadLetter:
    """Return one of the items of a chunk as a dead letter."""
    item = list(chunk.unfinished())[index]
    return DeadLetter(
        number=item.number,
        workspace=chunk.workspace,
        destination=chunk.destination,
        pipeline=item.pipeline,
        reason=reason,
        message="no email",
        status=400,
        attempts=1,
        enqueued_at=chunk.enqueued_at,
        died_at=died_at,
        event=item.event,
    )
