"""A typed client with blocking calls: creates a source, streams events to it, and reads them.

URL is the address of the server and KEY an API key, as in README.md.
"""

import os
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import grpc
from google.rpc import error_details_pb2, status_pb2

from headwater.v1 import (
    connections_pb2,
    connections_pb2_grpc,
    events_pb2,
    events_pb2_grpc,
    filters_pb2,
    pipelines_pb2,
    pipelines_pb2_grpc,
)

MANAGER = (("authorization", f"Bearer {os.environ['KEY']}"),)
MAX_STREAMS = 10
RETRIED = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED)


def main() -> None:
    with grpc.insecure_channel(urlsplit(os.environ["URL"]).netloc) as channel:
        source, write_key = create_source(channel)
        stream_events(events_pb2_grpc.EventServiceStub(channel), write_key, make_requests(source))
        read_events(events_pb2_grpc.EventServiceStub(channel), source)
        handle_an_error(channel)


def create_source(channel: grpc.Channel) -> tuple[int, str]:
    """Create a source and a pipeline that stores its orders. Return the source's id and its write key."""
    connections = connections_pb2_grpc.ConnectionServiceStub(channel)
    connection = connections_pb2.CreateConnectionRequest(name="Shop", role="Source", connector="http")
    source = connections.CreateConnection(connection, metadata=MANAGER, timeout=10).id
    orders = filters_pb2.FilterCondition(property="event", operator="is", values=["Order Completed"])
    pipeline = pipelines_pb2.CreatePipelineRequest(
        connection=source,
        target="Event",
        name="Store orders",
        enabled=True,
        filter=filters_pb2.Filter(logical="and", conditions=[orders]),
    )
    pipelines = pipelines_pb2_grpc.PipelineServiceStub(channel)
    created = pipelines.CreatePipeline(pipeline, metadata=MANAGER, timeout=10)
    print(f"created source {source} with pipeline {created.id}")
    keys = connections_pb2.ListEventWriteKeysRequest(id=source)
    return source, connections.ListEventWriteKeys(keys, metadata=MANAGER, timeout=10).keys[0]


def make_requests(source: int) -> list[events_pb2.StreamEventsRequest]:
    """Make 20 requests with 10 events each. An event with a message id is stored once, however often it is sent."""
    return [
        events_pb2.StreamEventsRequest(
            events=[
                events_pb2.Event(
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


def stream_events(
    events: events_pb2_grpc.EventServiceStub, write_key: str, requests: list[events_pb2.StreamEventsRequest]
) -> None:
    """Send all requests. After a break, send those that are not acknowledged on a new stream."""
    metadata = (("authorization", f"Bearer {write_key}"),)
    durable = 0
    for _ in range(MAX_STREAMS):
        begin = durable
        try:
            for response in events.StreamEvents(iter(requests[begin:]), metadata=metadata, timeout=60):
                durable = begin + response.requests
        except grpc.RpcError as error:
            if error.code() not in RETRIED:
                raise
            print(f"the stream broke after {durable} requests")
            time.sleep(1)
        if durable == len(requests):
            print(f"streamed {durable} requests")
            return
    raise TimeoutError(f"only {durable} requests are durable after {MAX_STREAMS} streams")


def read_events(events: events_pb2_grpc.EventServiceStub, source: int) -> None:
    """Read the stored events of the source in pages, once all of them are stored."""
    for _ in range(100):
        pages = list(list_pages(events, source))
        stored = [event for page in pages for event in page.events]
        if len(stored) == 100:
            print(f"read {len(stored)} events in {len(pages)} pages")
            return
        time.sleep(0.2)
    raise TimeoutError("the events are not stored")


def list_pages(events: events_pb2_grpc.EventServiceStub, source: int) -> Iterator[events_pb2.ListEventsResponse]:
    request = events_pb2.ListEventsRequest(connection_ids=[source], order="receivedAt", ascending=True, limit=40)
    while True:
        page = events.ListEvents(request, metadata=MANAGER, timeout=10)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def handle_an_error(channel: grpc.Channel) -> None:
    """Send a request without a name. Programs decide by the reason, and show the field."""
    try:
        nameless = connections_pb2.CreateConnectionRequest(role="Source", connector="http")
        connections_pb2_grpc.ConnectionServiceStub(channel).CreateConnection(nameless, metadata=MANAGER, timeout=10)
    except grpc.RpcError as error:
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        for detail in status_pb2.Status.FromString(details).details:
            info = error_details_pb2.ErrorInfo()
            if detail.Unpack(info):
                print(f"error {info.reason} in {info.metadata['field']}: {error.details()}")


main()
