"""What became of a message: "what happened to X?" in one answer."""

import asyncio
from datetime import timedelta
from typing import Final, Literal

import msgspec
from msgspec import Struct

from headwater.base.clock import microseconds
from headwater.base.computing import Computing
from headwater.base.errors import TooManyRequests
from headwater.catalog import Catalog
from headwater.events.canonical import index_of_generated
from headwater.events.envelope import Envelope, decode_envelope
from headwater.log import EventLog, StoredEntry
from headwater.processing import CONSUMER
from headwater.processing.batch import read_batch
from headwater.state import StateStore, Step

MAX_PENDING_BYTES: Final = 16 * 1024 * 1024
"""How much of what waits in the log is looked through: more than a few seconds' worth is seldom there."""
MAX_DECODED_BYTES: Final = 2 * 1024 * 1024
"""How much of the calls that may hold a message is decoded for one trace, and one call more."""
MAX_WAITING: Final = 16
"""How many traces of one workspace may wait for the next scan."""
_ESCAPED: Final = frozenset('"\\/\b\f\n\r\t')
"""What JSON has another way to write, beside that by its number, which every character has."""

EventOutcome = Literal["Pending", "Processed", "NoPipeline", "Duplicate", "Rejected"]
NO_PIPELINE_MESSAGE: Final = (
    "no enabled pipeline of the source took this event: it is not stored. Enable a pipeline of the source, "
    "then send the event again with another messageId"
)


class TracedArrival(Struct, frozen=True):
    """One arrival of a message."""

    connection: int
    position: int
    received_at: int
    """Microseconds since the epoch."""
    outcome: EventOutcome
    message: str = ""
    """Why, for people, when it was rejected or no pipeline took it."""
    steps: tuple[Step, ...] = ()
    carried_at: int = 0
    """When the pipelines had it, in microseconds since the epoch."""
    duplicates: int = 0
    """How often the message was repeated; that many arrivals there were, of which the first are told."""


class Tracer:
    """Traces messages. Used in one event loop.

    What waits in the log is read by one scan at a time, for all who ask meanwhile, so that many callers take no more
    memory than one. A scan looks at the bytes of each frame, and only a bounded part of those that may hold the message
    is decoded.
    """

    def __init__(self, state: StateStore, log: EventLog, computing: Computing | None = None) -> None:
        self._state = state
        self._log = log
        self._computing = computing or Computing()
        self._asked: list[_Question] = []
        self._scanning: asyncio.Task[None] | None = None

    async def trace(self, workspace: int, message_id: str, catalog: Catalog) -> list[TracedArrival]:
        """The arrivals of a message id at the sources of a workspace, in the order of the log.

        A message id is unique per source only. What is not known is in no answer: it never came, or is forgotten, or
        waits in the log behind more than `MAX_PENDING_BYTES`, or among more than `MAX_DECODED_BYTES` of calls that may
        hold it. Raises TooManyRequests when `MAX_WAITING` calls of the workspace wait already; Unavailable.
        """
        # In this order: what is carried meanwhile is seen in the log or in the ledger, or in both.
        pending = await self._pending(workspace, message_id)
        arrived = {each.position: each for each in pending}
        sources = [connection.id for connection in catalog.connections(workspace) if connection.role == "Source"]
        entries = await self._state.messages((source, message_id) for source in sources)
        for (source, _), entry in entries.items():
            arrived[entry.position] = TracedArrival(
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
                arrived[repeat.position] = TracedArrival(source, repeat.position, repeat.received_at, "Duplicate")
        for rejected in await self._state.rejected_messages(workspace, message_id):
            arrived[rejected.position] = TracedArrival(
                rejected.connection, rejected.position, microseconds(rejected.received_at), "Rejected", rejected.message
            )
        return [arrived[position] for position in sorted(arrived)]

    async def _pending(self, workspace: int, message_id: str) -> list[TracedArrival]:
        if sum(asked.workspace == workspace for asked in self._asked) >= MAX_WAITING:
            raise TooManyRequests(f"{MAX_WAITING} traces of this workspace are waiting already")
        question = _Question(workspace, message_id, asyncio.get_running_loop().create_future())
        self._asked.append(question)
        if self._scanning is None:
            self._scanning = asyncio.create_task(self._scan_all(), name="trace")
        likely = await question.likely
        if not likely:
            return []
        return await self._computing.run(f"workspace {workspace}", pending_in, likely, message_id)

    async def _scan_all(self) -> None:
        """Scan for those that ask until nobody asks. One that asks during a scan waits for the next: what is in the log
        now may have come after the present scan began."""
        try:
            while self._asked:
                questions, self._asked = self._asked, []
                try:
                    await self._scan(questions)
                except Exception as error:
                    for question in questions:
                        if not question.likely.done():
                            question.likely.set_exception(error)
        finally:
            self._scanning = None

    async def _scan(self, questions: list["_Question"]) -> None:
        after = await self._state.position(CONSUMER)
        waiting = await self._log.read(after, max_bytes=MAX_PENDING_BYTES, wait=timedelta(0))
        found: list[list[StoredEntry]] = [[] for _ in questions]
        sizes = [0] * len(questions)
        for stored in waiting:
            try:
                envelope = decode_envelope(stored.entry.header)
            except msgspec.DecodeError:  # the worker reports it
                continue
            for index, question in enumerate(questions):
                if envelope.workspace != question.workspace or sizes[index] > MAX_DECODED_BYTES:
                    continue
                if _may_hold(stored, envelope, question.message_id):
                    found[index].append(stored)
                    sizes[index] += stored.entry.size
            await asyncio.sleep(0)  # others wait for their events to be accepted
        for question, likely in zip(questions, found, strict=True):
            if not question.likely.done():  # its caller may have gone
                question.likely.set_result(likely)


class _Question(Struct):
    """One caller's, which the next scan answers."""

    workspace: int
    message_id: str
    likely: asyncio.Future[list[StoredEntry]]
    """The frames that may hold the message."""


def pending_in(entries: list[StoredEntry], message_id: str) -> list[TracedArrival]:
    """The arrivals of the message in these frames."""
    return [
        TracedArrival(arrival.event.connection_id, arrival.position, arrival.message.received_at, "Pending")
        for arrival in read_batch(entries).arrivals
        if arrival.event.message_id == message_id
    ]


def _may_hold(stored: StoredEntry, envelope: Envelope, message_id: str) -> bool:
    """Whether a frame is worth decoding: most can be told by a look at their bytes."""
    body = stored.entry.body
    if message_id.encode() in body or b"\\u" in body:
        return True
    if b"\\" in body and not _ESCAPED.isdisjoint(message_id):
        return True
    index = index_of_generated(message_id, envelope.nonce)
    return index is not None and index < stored.entry.events
