"""Reports the outcomes of events: the trace of a message, and the outcomes of the events of a call."""

import asyncio
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import msgspec
from msgspec import Struct

from headwater.base.clock import microseconds
from headwater.base.computing import Computing
from headwater.base.errors import TooManyRequests, Unavailable
from headwater.base.steps import EventOutcome
from headwater.catalog import Catalog
from headwater.events.canonical import find_generated_index
from headwater.events.protocol import Envelope, decode_envelope
from headwater.log import EventLog, StoredEntry
from headwater.observe.deliverysteps import TracedStep, combine, find_destinations
from headwater.processing import CONSUMER
from headwater.processing.batch import read_batch
from headwater.state import MessageState, StateStore
from headwater.state.deliveries import DeliveryStore

MAX_PENDING_BYTES: Final = 16 * 1024 * 1024
"""Maximum size of the log's backlog that a trace searches. More than a few seconds' worth seldom waits."""
MAX_DECODED_BYTES: Final = 2 * 1024 * 1024
"""Maximum size of the calls that one trace decodes, exceeded by one call at most."""
MAX_WAITING: Final = 16
"""Maximum number of traces of one workspace that wait for the next scan."""
WAIT_SECONDS: Final = 2.0
"""Time that the worker has to process the call before its events are reported as "Pending"."""
POLL_SECONDS: Final = 0.02
_ESCAPED: Final = frozenset('"\\/\b\f\n\r\t')
"""Characters with a short escape in JSON. Every character can also be written by its number."""

NO_PIPELINE_MESSAGE: Final = (
    "no enabled pipeline of the source took this event: it is not stored. Enable a pipeline of the source, "
    "then send the event again with another messageId"
)


class TracedArrival(Struct, frozen=True):
    """One arrival of a message."""

    connection: int
    position: int
    received_at: int
    """Time of arrival, in microseconds since the epoch."""
    outcome: EventOutcome
    message: str = ""
    """The reason, for people, if it was rejected or no pipeline processed it."""
    steps: tuple[TracedStep, ...] = ()
    duplicates: int = 0
    """Number of repeats of the message. Only the first of these arrivals are listed."""


class Tracer:
    """Traces messages. Used in one event loop.

    One scan at a time reads the log's backlog for all waiting questions, so that many callers take no more memory than
    one. A scan searches the bytes of each log entry, and decodes only a bounded part of those that may contain the
    message.
    """

    def __init__(
        self, state: StateStore, log: EventLog, deliveries: DeliveryStore, computing: Computing | None = None
    ) -> None:
        self._state = state
        self._log = log
        self._deliveries = deliveries
        self._computing = computing or Computing()
        self._asked: list[_Question] = []
        self._scanning: asyncio.Task[None] | None = None

    async def trace(self, workspace: int, message_id: str, catalog: Catalog) -> list[TracedArrival]:
        """Return the arrivals of a message id at the sources of a workspace, in the order of the log.

        A message id is unique per source only. Unknown messages are missing: they never arrived, have expired, or wait
        in the log behind more than `MAX_PENDING_BYTES`, or among more than `MAX_DECODED_BYTES` of calls that may
        contain them. Raises TooManyRequests if `MAX_WAITING` calls of the workspace are waiting; Unavailable.
        """
        # In this order: a message that is processed meanwhile is found in the log or in the state store, or in both.
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
                _explain(entry),
                await self._steps(workspace, source, entry, catalog),
                entry.repeated,
            )
            for repeat in entry.repeats:
                arrived[repeat.position] = TracedArrival(source, repeat.position, repeat.received_at, "Duplicate")
        for rejected in await self._state.rejected_messages(workspace, message_id):
            arrived[rejected.position] = TracedArrival(
                rejected.connection, rejected.position, microseconds(rejected.received_at), "Rejected", rejected.message
            )
        return [arrived[position] for position in sorted(arrived)]

    async def _steps(
        self, workspace: int, source: int, entry: MessageState, catalog: Catalog
    ) -> tuple[TracedStep, ...]:
        """Return the steps of a message with its deliveries. A replay may deliver it to more destinations."""
        connection = catalog.connection(workspace, source)
        linked = () if connection is None else connection.linked_connections
        destinations = {*linked, *find_destinations(entry.steps, source)}
        deliveries = await self._deliveries.trace(sorted(destinations), entry.position) if destinations else []
        waits = any(each.state == "Queued" for each in deliveries)
        return combine(
            source,
            entry.steps,
            entry.processed_at,
            deliveries,
            health=await self._deliveries.health() if waits else {},
            enabled={
                pipeline.id: pipeline.enabled
                for destination in destinations
                if (found := catalog.connection(workspace, destination)) is not None
                for pipeline in found.pipelines
            },
        )

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
        """Scan until no question is left. A question during a scan waits for the next scan, because entries in the log
        may be newer than the present one."""
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
            await asyncio.sleep(0)  # other tasks run, such as accepting events
        for question, likely in zip(questions, found, strict=True):
            if not question.likely.done():  # its caller may have given up
                question.likely.set_result(likely)


class _Question(Struct):
    """A caller's question for the next scan."""

    workspace: int
    message_id: str
    likely: asyncio.Future[list[StoredEntry]]
    """The log entries that may contain the message."""


def pending_in(entries: list[StoredEntry], message_id: str) -> list[TracedArrival]:
    """Return the arrivals of the message in these log entries."""
    return [
        TracedArrival(accepted.event.connection_id, accepted.position, accepted.message.received_at, "Pending")
        for accepted in read_batch(entries).accepted
        if accepted.event.message_id == message_id
    ]


def _may_hold(stored: StoredEntry, envelope: Envelope, message_id: str) -> bool:
    """Return whether a log entry must be decoded. For most the bytes show that it cannot contain the message."""
    body = stored.entry.body
    if message_id.encode() in body or b"\\u" in body:
        return True
    if b"\\" in body and not _ESCAPED.isdisjoint(message_id):
        return True
    index = find_generated_index(message_id, envelope.nonce)
    return index is not None and index < stored.entry.events


async def wait_for_outcomes(
    connection: int, position: int, message_ids: Sequence[str | None], state: StateStore
) -> list[EventOutcome | None]:
    """Return the outcome of each event of a source from `position` on, by its message id; None for one without id.

    The worker decides whether an event repeats another, usually within a tenth of a second. Until then events are
    pending, and while the state store is unavailable.
    """
    try:
        finished = await _wait_for(position + len(message_ids) - 1, state)
        entries = await state.messages((connection, id_) for id_ in message_ids if id_ is not None)
    except Unavailable:  # they are durable all the same, and a client that gets an error sends them again
        finished, entries = 0, {}
    found: list[EventOutcome | None] = []
    for place, id_ in enumerate(message_ids, position):
        entry = None if id_ is None else entries.get((connection, id_))
        if id_ is None:
            found.append(None)
        elif entry is None or place > finished:
            found.append("Pending")
        else:
            found.append(
                ("Processed" if entry.has_pipeline else "NoPipeline") if entry.position == place else "Duplicate"
            )
    return found


async def _wait_for(position: int, state: StateStore) -> int:
    """Wait until the worker has reached `position`, within a time limit; return its position."""
    deadline = time.monotonic() + WAIT_SECONDS
    while (finished := await state.position(CONSUMER)) < position and time.monotonic() < deadline:
        await asyncio.sleep(POLL_SECONDS)
    return finished


def _explain(entry: MessageState) -> str:
    """Return why no pipeline processed a message; an empty text if one did."""
    if entry.has_pipeline:
        return ""
    dropped = (step.message for step in entry.steps if step.outcome == "Filtered")
    return next(dropped, NO_PIPELINE_MESSAGE)
