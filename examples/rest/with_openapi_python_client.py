"""A REST client that openapi-python-client has generated: creates a source, sends events to it, and reads them.

URL is the address of the server and KEY an API key, as in README.md.
"""

import os
import time

import httpx
from headwater_client import AuthenticatedClient
from headwater_client.api.connection_service import create_connection, list_event_write_keys
from headwater_client.api.event_service import list_events
from headwater_client.api.pipeline_service import create_pipeline
from headwater_client.api.track_service import batch
from headwater_client.models import (
    BatchCall,
    BatchEvent,
    ConnectionRole,
    CreateConnectionRequest,
    CreateConnectionResponse,
    CreatePipelineRequest,
    CreatePipelineResponse,
    Error,
    EventKind,
    EventOrder,
    FilterConditionInput,
    FilterInput,
    FilterOperator,
    ListEventWriteKeysResponse,
    PipelineTarget,
    StoredEvent,
    StoredEventPage,
    StrictMode,
)

MAX_ATTEMPTS = 10
manager = AuthenticatedClient(base_url=os.environ["URL"], token=os.environ["KEY"])


def main() -> None:
    source, write_key = create_source()
    send_events(write_key, make_batches(source))
    read_events(source)
    handle_an_error()


def create_source() -> tuple[int, str]:
    """Create a source and a pipeline that stores its orders. Return the source's id and its write key."""
    connection = CreateConnectionRequest(name="Shop", role=ConnectionRole.SOURCE, connector="http")
    source = create_connection.sync(client=manager, body=connection)
    assert isinstance(source, CreateConnectionResponse), source
    orders = FilterConditionInput(property_="event", operator=FilterOperator.IS, values=["Order Completed"])
    pipeline = CreatePipelineRequest(
        connection=source.id,
        target=PipelineTarget.EVENT,
        name="Store orders",
        enabled=True,
        filter_=FilterInput(logical="and", conditions=[orders]),
    )
    created = create_pipeline.sync(client=manager, body=pipeline)
    assert isinstance(created, CreatePipelineResponse), created
    print(f"created source {source.id} with pipeline {created.id}")
    listed = list_event_write_keys.sync(source.id, client=manager)
    assert isinstance(listed, ListEventWriteKeysResponse), listed
    return source.id, listed.keys[0]


def make_batches(source: int) -> list[BatchCall]:
    """Make 20 batches with 10 events each. An event with a message id is stored once, however often it is sent."""
    return [
        BatchCall(
            batch=[
                BatchEvent(
                    type_=EventKind.TRACK,
                    user_id="ada",
                    message_id=f"{source}-{number}-{index}",
                    event="Order Completed" if index % 2 else "Order Viewed",
                )
                for index in range(10)
            ]
        )
        for number in range(20)
    ]


def send_events(write_key: str, batches: list[BatchCall]) -> None:
    """Send each batch until the server has it."""
    client = AuthenticatedClient(base_url=os.environ["URL"], token=write_key)
    for body in batches:
        for attempt in range(1, MAX_ATTEMPTS + 1):
            try:
                response = batch.sync_detailed(client=client, body=body, x_strict_mode=StrictMode.VALUE_1)
            except httpx.TransportError as error:
                print(f"a request failed: {error}")
            else:
                if response.status_code == 200:
                    break
                assert response.status_code in (429, 503), response
            assert attempt < MAX_ATTEMPTS
            time.sleep(0.2)
    print(f"streamed {len(batches)} requests")


def read_events(source: int) -> None:
    """Read the stored events of the source in pages, once all of them are stored."""
    for _ in range(100):
        stored, pages = list_pages(source)
        if len(stored) == 100:
            print(f"read {len(stored)} events in {pages} pages")
            return
        time.sleep(0.2)
    raise TimeoutError("the events are not stored")


def list_pages(source: int) -> tuple[list[StoredEvent], int]:
    stored: list[StoredEvent] = []
    token, pages = "", 0
    while pages == 0 or token:
        page = list_events.sync(
            client=manager,
            connection=[source],
            order=EventOrder.RECEIVEDAT,
            ascending=True,
            limit=40,
            page_token=token,
        )
        assert isinstance(page, StoredEventPage), page
        stored += page.events
        token = page.next_page_token
        pages += 1
    return stored, pages


def handle_an_error() -> None:
    """Send a request with an empty name. Programs decide by the code and the field, and show the message."""
    nameless = CreateConnectionRequest(name="", role=ConnectionRole.SOURCE, connector="http")
    error = create_connection.sync(client=manager, body=nameless)
    assert isinstance(error, Error), error
    if error.error.code == "BadRequest" and error.error.field == "name":
        print(f"error {error.error.code} in {error.error.field}: {error.error.message}")


main()
