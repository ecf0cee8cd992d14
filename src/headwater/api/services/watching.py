"""Listeners and watchers of events, for the services of both packages."""

import re
import time
from collections.abc import AsyncGenerator
from typing import Final

import msgspec
from google.protobuf.message import Message

from headwater.api.messages.eventquery import check_event_filter
from headwater.api.offloop import compute
from headwater.api.peers import Peers, Response
from headwater.api.request import Context, read_metadata, require_workspace
from headwater.base.computing import Computing
from headwater.base.errors import BadRequest
from headwater.base.outcomes import DeliveryOutcome
from headwater.catalog import Catalog, access
from headwater.catalog.access import WORKSPACE_HEADER
from headwater.filters import CheckedFilter
from headwater.observe.listeners import DEFAULT_SIZE, MAX_SIZE, Sample
from headwater.observe.selection import find_destination, select_events
from headwater.observe.watching import Observers, Watched
from headwater.rest.v1 import events_pb2 as rest_pb
from headwater.v1 import events_pb2 as pb

HEARTBEAT_SECONDS: Final = 15.0
"""Maximum time without a response on a watch."""
CHECK_SECONDS: Final = 1.0
"""Interval at which a watch checks that its API key is still valid."""

_NEWLINE: Final = re.compile(rb"\r\n|\r|\n")
_encode: Final = msgspec.json.Encoder().encode

WatchRequest = pb.WatchEventsRequest | rest_pb.WatchEventsRequest


class EventObserver:
    """Handles the calls about listeners and watchers."""

    def __init__(self, catalog: Catalog, computing: Computing, observers: Observers, peers: Peers) -> None:
        self._catalog = catalog
        self._computing = computing
        self._observers = observers
        self._peers = peers

    async def create_listener(self, request: pb.CreateEventListenerRequest, context: Context) -> int:
        """Create a listener in this process; return its id."""
        workspace = await require_workspace(self._catalog, context)
        size = request.size if request.HasField("size") else DEFAULT_SIZE
        if not 1 <= size <= MAX_SIZE:
            raise BadRequest(f"size must be in the range from 1 to {MAX_SIZE}", field="size")
        connection = request.connection if request.HasField("connection") else None
        filter_ = await self._filter(request, workspace)
        selection = select_events(self._catalog, workspace, connection, filter_)
        return await self._observers.listeners.create(selection, size)

    async def read_listener(self, id_: int, context: Context) -> Sample:
        """Return the events of a listener in this process, and empty it."""
        return self._observers.listeners.read(await require_workspace(self._catalog, context), id_)

    async def delete_listener(self, id_: int, context: Context) -> None:
        """Remove a listener in this process, if it exists."""
        self._observers.listeners.delete(await require_workspace(self._catalog, context), id_)

    async def pass_on(
        self, method: str, request: Message, response: type[Response], context: Context
    ) -> Response | None:
        """Return the response of the process that has the caller's listeners; None if it is this one."""
        workspace = await require_workspace(self._catalog, context)
        owner = self._peers.find_owner(workspace)
        return None if owner is None else await self._peers.call(owner, method, request, response, context)

    async def watch(self, request: WatchRequest, context: Context) -> AsyncGenerator[Watched, None]:
        """Yield what happens, and empty values that show that the watch has begun and that it goes on."""
        workspace = await require_workspace(self._catalog, context)
        connection = request.connection if request.HasField("connection") else None
        filter_ = await self._filter(request, workspace)
        selection = select_events(self._catalog, workspace, connection, filter_)
        async with self._observers.watchers.watch(
            selection,
            outcomes=request.deliveries,
            destination=find_destination(self._catalog, workspace, connection),
        ) as watcher:
            yield Watched([], [])
            yielded_at = checked_at = time.monotonic()
            while True:
                watched = await watcher.next(CHECK_SECONDS)
                now = time.monotonic()
                if now - checked_at >= CHECK_SECONDS:
                    await self._check_key(workspace, context)
                    checked_at = now
                if not watched.is_empty or now - yielded_at >= HEARTBEAT_SECONDS:
                    yield watched
                    yielded_at = now

    async def _check_key(self, workspace: int, context: Context) -> None:
        """Raise as at the start if the caller may no longer watch."""
        metadata = read_metadata(context)
        caller = await access.find_caller(
            self._catalog, metadata.get("authorization"), metadata.get(WORKSPACE_HEADER) or str(workspace)
        )
        caller.require_workspace()

    async def _filter(
        self, request: pb.CreateEventListenerRequest | WatchRequest, workspace: int
    ) -> CheckedFilter | None:
        return await compute(self._computing, f"workspace {workspace}", check_event_filter, request)


def sample_body(sample: Sample) -> bytes:
    """Return the events of a listener as JSON."""
    return b'{"events":[' + b",".join(sample.documents) + b'],"omitted":%d}' % sample.omitted


def sent_events(watched: Watched) -> bytes:
    """Return what has happened as server-sent events; a comment if nothing has."""
    if watched.is_empty:
        return b":\n\n"
    pieces = []
    if watched.omitted_events or watched.omitted_outcomes:
        pieces.append(_sent(b"omitted", _encode(_omissions(watched))))
    pieces += [_sent(b"event", document) for document in watched.documents]
    pieces += [_sent(b"delivery", _encode(_outcome_document(each))) for each in watched.outcomes]
    return b"".join(pieces)


def outcome_message(outcome: DeliveryOutcome) -> pb.DeliveryOutcome:
    """Return the outcome of a delivery as a message."""
    message = pb.DeliveryOutcome(
        destination=outcome.destination,
        pipeline=outcome.pipeline,
        connection_id=outcome.source,
        message_id=outcome.message_id,
        step=outcome.step,
        outcome=outcome.outcome,
        message=outcome.message,
        status=outcome.status,
        attempts=outcome.attempts,
    )
    message.at.FromMicroseconds(outcome.at)
    return message


def _omissions(watched: Watched) -> dict[str, int]:
    return {"events": watched.omitted_events, "deliveries": watched.omitted_outcomes}


def _outcome_document(outcome: DeliveryOutcome) -> dict[str, object]:
    """Return the members of a DeliveryOutcome in JSON."""
    message = outcome_message(outcome)
    document = {field.json_name: getattr(message, field.name) for field in message.DESCRIPTOR.fields}
    document["at"] = message.at.ToJsonString()
    if not message.HasField("status"):
        del document["status"]
    return document


def _sent(name: bytes, data: bytes) -> bytes:
    """Return one server-sent event. JSON may have line ends between its values, and a line is a field there."""
    if b"\n" in data or b"\r" in data:
        data = _NEWLINE.sub(b"\ndata: ", data)
    return b"event: " + name + b"\ndata: " + data + b"\n\n"
