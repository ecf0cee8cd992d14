"""DeliveryService: dead letters, and the queues of destinations."""

from collections.abc import Iterator, Sequence
from typing import Final

from headwater.api.messages.times import read_time, set_time
from headwater.api.pages import Page
from headwater.api.request import Context, require_workspace
from headwater.base.errors import BadRequest
from headwater.catalog import Catalog
from headwater.management.lookup import find_connection
from headwater.rest.v1 import deliveries_pb2 as rest_pb
from headwater.rest.v1 import deliveries_pb2_grpc as rest_grpc
from headwater.state.deliveries import DeadCursor, DeadLetter, DeadSelection, DeliveryStore, LaneHealth, LaneSummary
from headwater.v1 import deliveries_pb2 as pb
from headwater.v1 import deliveries_pb2_grpc, operations_pb2

Selecting = pb.ListDeadLettersRequest | rest_pb.ListDeadLettersRequest | operations_pb2.ResendDeadLettersRequest

MAX_PAGE_BYTES: Final = 8 << 20
"""Maximum size of the events of a page of dead letters."""
MAX_REASON_CHARACTERS: Final = 100

_HEALTH: Final = {"closed": "Closed", "open": "Open", "half_open": "HalfOpen", "refusing": "Refusing"}


class DeliveryServicer(deliveries_pb2_grpc.DeliveryServiceServicer):
    """Lists and counts dead letters, and shows queues."""

    def __init__(self, catalog: Catalog, deliveries: DeliveryStore) -> None:
        self._catalog = catalog
        self._deliveries = deliveries
        self._reader = DeadLetterReader(catalog, deliveries)

    async def ListDeadLetters(self, request: pb.ListDeadLettersRequest, context: Context) -> pb.ListDeadLettersResponse:
        return await self._reader.list(request, context)

    async def CountDeadLetters(
        self, request: pb.CountDeadLettersRequest, context: Context
    ) -> pb.CountDeadLettersResponse:
        workspace = await require_workspace(self._catalog, context)
        destination = request.destination if request.HasField("destination") else None
        counts = await self._deliveries.dead_counts(workspace, destination=destination)
        return pb.CountDeadLettersResponse(
            counts=[
                pb.DeadLetterCount(
                    destination=each.destination, pipeline=each.pipeline, reason=each.reason, count=each.count
                )
                for each in counts
            ]
        )

    async def GetDestinationQueue(
        self, request: pb.GetDestinationQueueRequest, context: Context
    ) -> pb.DestinationQueue:
        workspace = await require_workspace(self._catalog, context)
        connection = find_connection(self._catalog, workspace, request.id)
        if connection.role != "Destination":
            raise BadRequest(f"connection {request.id} is not a destination", field="id")
        summaries = await self._deliveries.summaries()
        health = (await self._deliveries.health()).get(connection.id)
        found = next((each for each in summaries if each.destination == connection.id), None)
        return _queue(
            found or LaneSummary(destination=connection.id),
            health or LaneHealth(destination=connection.id, workspace=workspace),
        )


class DeliveryRestServicer(rest_grpc.DeliveryServiceServicer):
    """Lists dead letters for REST callers."""

    def __init__(self, catalog: Catalog, deliveries: DeliveryStore) -> None:
        self._reader = DeadLetterReader(catalog, deliveries)

    async def ListDeadLetters(
        self, request: rest_pb.ListDeadLettersRequest, context: Context
    ) -> pb.ListDeadLettersResponse:
        return await self._reader.list(request, context)


class DeadLetterReader:
    """Reads dead letters for the services of both packages."""

    def __init__(self, catalog: Catalog, deliveries: DeliveryStore) -> None:
        self._catalog = catalog
        self._deliveries = deliveries

    async def list(
        self, request: pb.ListDeadLettersRequest | rest_pb.ListDeadLettersRequest, context: Context
    ) -> pb.ListDeadLettersResponse:
        """Return a page."""
        workspace = await require_workspace(self._catalog, context)
        selection = read_selection(request, workspace)
        page = Page(request, DeadCursor)
        found = await self._deliveries.dead_letters(selection, limit=page.limit, after=page.after)
        shown = list(_within(MAX_PAGE_BYTES, found.letters))
        cursor = found.next
        if len(shown) < len(found.letters):
            cursor = DeadCursor(shown[-1].died_at, shown[-1].number)
        return pb.ListDeadLettersResponse(
            dead_letters=[_dead_letter(each) for each in shown], next_page_token=page.token(cursor)
        )


def read_selection(request: Selecting, workspace: int) -> DeadSelection:
    """Return the dead letters that a request selects. Raises BadRequest."""
    reason = request.reason if request.HasField("reason") else None
    if reason is not None and ("\0" in reason or not 1 <= len(reason) <= MAX_REASON_CHARACTERS):
        raise BadRequest(f"reason must have 1 to {MAX_REASON_CHARACTERS} characters and no NUL", field="reason")
    return DeadSelection(
        workspace=workspace,
        destination=request.destination if request.HasField("destination") else None,
        pipeline=request.pipeline if request.HasField("pipeline") else None,
        reason=reason,
        since=read_time(request, "since"),
        until=read_time(request, "until"),
    )


def _within(size: int, letters: Sequence[DeadLetter]) -> Iterator[DeadLetter]:
    """Yield the first of the dead letters: those whose events are together not larger than `size`, but at least one."""
    for number, letter in enumerate(letters):
        size -= len(letter.event.document)
        if number and size < 0:
            return
        yield letter


def _dead_letter(letter: DeadLetter) -> pb.DeadLetter:
    message = pb.DeadLetter(
        number=letter.number,
        destination=letter.destination,
        pipeline=letter.pipeline,
        reason=letter.reason,
        message=letter.message,
        status=letter.status or None,
        attempts=letter.attempts,
        source=letter.event.source,
        message_id=letter.event.message_id,
        event_json=letter.event.document.decode(),
    )
    set_time(message, "enqueue_time", letter.enqueued_at)
    set_time(message, "die_time", letter.died_at)
    set_time(message, "received_at", letter.event.received_at)
    return message


def _queue(summary: LaneSummary, health: LaneHealth) -> pb.DestinationQueue:
    message = pb.DestinationQueue(
        health=_HEALTH[health.state],
        failures=health.failures,
        last_status=health.last_status or None,
        last_error=health.last_error,
        last_response=health.last_response.decode(errors="replace") if health.last_response else None,
        open_items=summary.open_items,
        open_bytes=summary.open_bytes,
        dead_items=summary.dead_items,
        dead_bytes=summary.dead_bytes,
    )
    set_time(message, "failing_since", health.failing_since)
    set_time(message, "paused_until", health.paused_until)
    set_time(message, "last_success_time", health.last_success_at)
    set_time(message, "oldest_time", summary.oldest_at)
    return message
