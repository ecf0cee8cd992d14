"""A REST client that openapi-generator has generated: creates a source, sends events to it, and reads them.

URL is the address of the server and KEY an API key, as in README.md.
"""

import os
import time

from headwater_rest import (
    ApiClient,
    ApiException,
    BatchCall,
    BatchEvent,
    BatchRequest,
    Configuration,
    ConnectionRole,
    ConnectionServiceApi,
    CreateConnectionRequest,
    CreatePipelineRequest,
    Error,
    EventKind,
    EventOrder,
    EventServiceApi,
    FilterConditionInput,
    FilterInput,
    FilterOperator,
    PipelineServiceApi,
    PipelineTarget,
    StoredEvent,
    StrictMode,
    TrackServiceApi,
)
from urllib3.exceptions import HTTPError

MAX_ATTEMPTS = 10


def connect(key: str) -> ApiClient:
    return ApiClient(Configuration(host=os.environ["URL"], access_token=key))


def main() -> None:
    manager = connect(os.environ["KEY"])
    connections = ConnectionServiceApi(manager)
    source, write_key = create_source(connections, PipelineServiceApi(manager))
    send_events(TrackServiceApi(connect(write_key)), make_batches(source))
    read_events(EventServiceApi(manager), source)
    handle_an_error(connections)


def create_source(connections: ConnectionServiceApi, pipelines: PipelineServiceApi) -> tuple[int, str]:
    """Create a source and a pipeline that stores its orders. Return the source's id and its write key."""
    connection = CreateConnectionRequest(name="Shop", role=ConnectionRole.SOURCE, connector="http")
    source = connections.create_connection(connection).id
    orders = FilterConditionInput(var_property="event", operator=FilterOperator.IS, values=["Order Completed"])
    pipeline = CreatePipelineRequest(
        connection=source,
        target=PipelineTarget.EVENT,
        name="Store orders",
        enabled=True,
        filter=FilterInput(logical="and", conditions=[orders]),
    )
    print(f"created source {source} with pipeline {pipelines.create_pipeline(pipeline).id}")
    return source, connections.list_event_write_keys(source).keys[0]


def make_batches(source: int) -> list[BatchCall]:
    """Make 20 batches with 10 events each. An event with a message id is stored once, however often it is sent."""
    return [
        BatchCall(
            batch=[
                BatchEvent.from_dict(
                    {
                        "type": EventKind.TRACK,
                        "userId": "ada",
                        "messageId": f"{source}-{number}-{index}",
                        "event": "Order Completed" if index % 2 else "Order Viewed",
                    }
                )
                for index in range(10)
            ]
        )
        for number in range(20)
    ]


def send_events(track: TrackServiceApi, batches: list[BatchCall]) -> None:
    """Send each batch until the server has it."""
    for batch in batches:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                track.batch(BatchRequest(batch), x_strict_mode=StrictMode.ENUM_1)
                break
            except HTTPError as error:
                print(f"a request failed: {error}")
            except ApiException as error:
                if error.status not in (429, 503):
                    raise
            assert attempt < MAX_ATTEMPTS
            time.sleep(0.2)
    print(f"streamed {len(batches)} requests")


def read_events(events: EventServiceApi, source: int) -> None:
    """Read the stored events of the source in pages, once all of them are stored."""
    for _ in range(100):
        stored, pages = list_pages(events, source)
        if len(stored) == 100:
            print(f"read {len(stored)} events in {pages} pages")
            return
        time.sleep(0.2)
    raise TimeoutError("the events are not stored")


def list_pages(events: EventServiceApi, source: int) -> tuple[list[StoredEvent], int]:
    stored: list[StoredEvent] = []
    token, pages = "", 0
    while pages == 0 or token:
        page = events.list_events(
            connection=[source], order=EventOrder.RECEIVEDAT, ascending=True, limit=40, page_token=token
        )
        stored += page.events
        token = page.next_page_token
        pages += 1
    return stored, pages


def handle_an_error(connections: ConnectionServiceApi) -> None:
    """Send a name that is not valid. Programs decide by the code and the field, and show the message."""
    unnamed = CreateConnectionRequest(name="Shop\0", role=ConnectionRole.SOURCE, connector="http")
    try:
        connections.create_connection(unnamed)
    except ApiException as error:
        assert isinstance(error.data, Error)
        found = error.data.error
        if found.code == "BadRequest" and found.var_field == "name":
            print(f"error {found.code} in {found.var_field}: {found.message}")


main()
