"""A typed client with dataclasses: creates a source, streams events to it, and reads them.

URL is the address of the server and KEY an API key, as in README.md. The messages are those of betterproto2, and the
connection is grpc.aio.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import TypeVar
from urllib.parse import urlsplit

import grpc
from betterproto2 import Message
from google.rpc import error_details_pb2, status_pb2
from grpc import aio
from headwater_dataclasses.headwater.v1 import (
    CreateConnectionRequest,
    CreateConnectionResponse,
    CreatePipelineRequest,
    CreatePipelineResponse,
    Event,
    Filter,
    FilterCondition,
    ListEventsRequest,
    ListEventsResponse,
    ListEventWriteKeysRequest,
    ListEventWriteKeysResponse,
    StreamEventsRequest,
    StreamEventsResponse,
)

M = TypeVar("M", bound=Message)
MAX_STREAMS = 10
RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED)


class Client:
    """Calls with an API key."""

    def __init__(self, channel: aio.Channel) -> None:
        self._channel = channel

    async def call(self, method: str, request: Message, response: type[M]) -> M:
        metadata = (("authorization", f"Bearer {os.environ['KEY']}"),)
        call = self._channel.unary_unary(
            f"/headwater.v1.{method}", request_serializer=bytes, response_deserializer=response.parse
        )
        return await call(request, metadata=metadata, timeout=10)

    async def stream(self, write_key: str, requests: list[StreamEventsRequest]) -> AsyncIterator[StreamEventsResponse]:
        stream = self._channel.stream_stream(
            "/headwater.v1.EventService/StreamEvents",
            request_serializer=bytes,
            response_deserializer=StreamEventsResponse.parse,
        )
        metadata = (("authorization", f"Bearer {write_key}"),)
        async for response in stream(iter(requests), metadata=metadata, timeout=60):
            yield response


async def main() -> None:
    async with aio.insecure_channel(urlsplit(os.environ["URL"]).netloc) as channel:
        client = Client(channel)
        source, write_key = await create_source(client)
        await stream_events(client, write_key, make_requests(source))
        await read_events(client, source)
        await handle_an_error(client)


async def create_source(client: Client) -> tuple[int, str]:
    """Create a source and a pipeline that stores its orders. Return the source's id and its write key."""
    connection = CreateConnectionRequest(name="Shop", role="Source", connector="http")
    source = await client.call("ConnectionService/CreateConnection", connection, CreateConnectionResponse)
    orders = FilterCondition(property="event", operator="is", values=["Order Completed"])
    pipeline = CreatePipelineRequest(
        connection=source.id,
        target="Event",
        name="Store orders",
        enabled=True,
        filter=Filter(logical="and", conditions=[orders]),
    )
    created = await client.call("PipelineService/CreatePipeline", pipeline, CreatePipelineResponse)
    print(f"created source {source.id} with pipeline {created.id}")
    request = ListEventWriteKeysRequest(id=source.id)
    listed = await client.call("ConnectionService/ListEventWriteKeys", request, ListEventWriteKeysResponse)
    return source.id, listed.keys[0]


def make_requests(source: int) -> list[StreamEventsRequest]:
    """Make 20 requests with 10 events each. An event with a message id is stored once, however often it is sent."""
    return [
        StreamEventsRequest(
            events=[
                Event(
                    type="track",
                    user_id="ada",
                    message_id=f"{source}-{request}-{index}",
                    event="Order Completed" if index % 2 else "Order Viewed",
                )
                for index in range(10)
            ]
        )
        for request in range(20)
    ]


async def stream_events(client: Client, write_key: str, requests: list[StreamEventsRequest]) -> None:
    """Send all requests. After a break, send those that are not acknowledged on a new stream."""
    durable = 0
    for _ in range(MAX_STREAMS):
        begin = durable
        try:
            async for response in client.stream(write_key, requests[begin:]):
                durable = begin + response.requests
        except aio.AioRpcError as error:
            if error.code() not in RETRIED:
                raise
            print(f"the stream broke after {durable} requests")
            await asyncio.sleep(1)
        if durable == len(requests):
            print(f"streamed {durable} requests")
            return
    raise TimeoutError(f"only {durable} requests are durable after {MAX_STREAMS} streams")


async def read_events(client: Client, source: int) -> None:
    """Read the stored events of the source in pages, once all of them are stored."""
    for _ in range(100):
        pages = [page async for page in list_pages(client, source)]
        stored = [event for page in pages for event in page.events]
        if len(stored) == 100:
            print(f"read {len(stored)} events in {len(pages)} pages")
            return
        await asyncio.sleep(0.2)
    raise TimeoutError("the events are not stored")


async def list_pages(client: Client, source: int) -> AsyncIterator[ListEventsResponse]:
    request = ListEventsRequest(connection_ids=[source], order="receivedAt", ascending=True, limit=40)
    while True:
        page = await client.call("EventService/ListEvents", request, ListEventsResponse)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


async def handle_an_error(client: Client) -> None:
    """Send a request without a name. Programs decide by the reason, and show the field."""
    try:
        nameless = CreateConnectionRequest(role="Source", connector="http")
        await client.call("ConnectionService/CreateConnection", nameless, CreateConnectionResponse)
    except aio.AioRpcError as error:
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        for detail in status_pb2.Status.FromString(details).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                print(f"error {info.reason} in {info.metadata['field']}: {error.details()}")


asyncio.run(main())
