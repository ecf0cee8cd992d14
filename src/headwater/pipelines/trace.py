"""What became of a message: "what happened to X?" in one answer."""

import asyncio
from collections.abc import Iterable
from datetime import timedelta
from typing import Final, Literal

import msgspec
from msgspec import Struct

from headwater.base.clock import microseconds
from headwater.catalog import Catalog
from headwater.eventlog import EventLog, StoredFrame
from headwater.events.canonical import index_of_generated
from headwater.events.envelope import decode_envelope
from headwater.pipelines.batch import read_batch
from headwater.pipelines.stream import CONSUMER
from headwater.warehouse import Step, Warehouse

MAX_PENDING_BYTES: Final = 16 * 1024 * 1024
"""How much of what waits in the log is looked through: more than a few seconds' worth is seldom there."""
_ESCAPED: Final = frozenset('"\\/\b\f\n\r\t')
"""What JSON has another way to write, beside that by its number, which every character has."""

Fate = Literal["Pending", "Processed", "NoPipeline", "Duplicate", "Rejected"]
NO_PIPELINE_MESSAGE: Final = (
    "no enabled pipeline of the source took this event: it is not stored. Enable a pipeline of the source, "
    "then send the event again with another messageId"
)


class Arrived(Struct, frozen=True):
    """One arrival of a message."""

    connection: int
    position: int
    received_at: int
    """Microseconds since the epoch."""
    fate: Fate
    message: str = ""
    """Why, for people, when it was rejected or no pipeline took it."""
    steps: tuple[Step, ...] = ()
    carried_at: int = 0
    """When the pipelines had it, in microseconds since the epoch."""
    duplicates: int = 0
    """How often the message was repeated; that many arrivals there were, of which the first are told."""


async def trace(
    workspace: int, message_id: str, catalog: Catalog, warehouse: Warehouse, log: EventLog
) -> list[Arrived]:
    """The arrivals of a message id at the sources of a workspace, in the order of the log.

    A message id is unique per source only. What is not known is in no answer: it never came, or is forgotten, or waits
    in the log behind more than `MAX_PENDING_BYTES`.
    """
    # In this order: what is carried meanwhile is seen in the log or in the ledger, or in both.
    waiting = await log.read(await warehouse.finished(CONSUMER), max_bytes=MAX_PENDING_BYTES, wait=timedelta(0))
    # In a thread, since it may take a second, and others wait for their events to be accepted.
    pending = await asyncio.to_thread(_pending, waiting, workspace, message_id)
    arrived = {each.position: each for each in pending}
    sources = [connection.id for connection in catalog.connections(workspace) if connection.role == "Source"]
    entries = await warehouse.entries((source, message_id) for source in sources)
    for (source, _), entry in entries.items():
        arrived[entry.position] = Arrived(
            source,
            entry.position,
            entry.received_at,
            "Processed" if entry.has_pipeline else "NoPipeline",
            "" if entry.has_pipeline else NO_PIPELINE_MESSAGE,
            entry.steps,
            entry.carried_at,
            entry.repeated,
        )
        for repeat in entry.repeats:
            arrived[repeat.position] = Arrived(source, repeat.position, repeat.received_at, "Duplicate")
    for refused in await warehouse.rejected_messages(workspace, message_id):
        arrived[refused.position] = Arrived(
            refused.connection, refused.position, microseconds(refused.received_at), "Rejected", refused.message
        )
    return [arrived[position] for position in sorted(arrived)]


def _pending(frames: Iterable[StoredFrame], workspace: int, message_id: str) -> list[Arrived]:
    likely = [frame for frame in frames if _may_hold(frame, workspace, message_id)]
    return [
        Arrived(arrival.event.connection_id, arrival.position, arrival.message.received_at, "Pending")
        for arrival in read_batch(likely).arrivals
        if arrival.event.message_id == message_id
    ]


def _may_hold(stored: StoredFrame, workspace: int, message_id: str) -> bool:
    """Whether a frame is of the workspace, and worth reading: most can be told by a look at their bytes."""
    try:
        envelope = decode_envelope(stored.frame.header)
    except msgspec.DecodeError:  # the worker tells of it
        return False
    if envelope.workspace != workspace:
        return False
    body = stored.frame.body
    if message_id.encode() in body or b"\\u" in body:
        return True
    if b"\\" in body and not _ESCAPED.isdisjoint(message_id):
        return True
    index = index_of_generated(message_id, envelope.nonce)
    return index is not None and index < stored.frame.events
