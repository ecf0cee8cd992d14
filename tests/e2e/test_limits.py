"""The limits of calls as the operator sets them: the gateway and the backend apply them."""

import json
from typing import Any

import grpc
import httpx
import pytest

from headwater.v1 import events_pb2 as pb
from headwater.v1.events_pb2_grpc import EventServiceStub
from tests.e2e.conftest import MAX_BATCH_BYTES, MAX_EVENT_BYTES
from tests.e2e.source import Source, make_source
from tests.system import HTTP, RunningSystem


@pytest.fixture
def source(configured_system: RunningSystem) -> Source:
    return make_source(configured_system)


def sized(size: int) -> dict[str, Any]:
    """Return an event with this number of bytes."""
    event: dict[str, Any] = {"type": "track", "event": "E", "userId": "u", "properties": {"text": ""}}
    event["properties"]["text"] = "x" * (size - len(json.dumps(event)))
    return event


def send(source: Source, call: str, body: Any) -> httpx.Response:
    return HTTP.post(
        f"{source.system.base_url}/v1/{call}",
        content=json.dumps(body).encode(),
        headers={
            "authorization": f"Bearer {source.write_key}",
            "content-type": "application/json",
            "x-strict-mode": "1",
        },
        timeout=30,
    )


def test_the_largest_event_and_the_largest_batch_are_stored(source: Source) -> None:
    assert send(source, "track", sized(MAX_EVENT_BYTES)).status_code == 200
    assert send(source, "batch", {"batch": [sized(MAX_EVENT_BYTES - 100)] * 2}).status_code == 200
    assert send(source, "events", sized(MAX_BATCH_BYTES)).status_code == 200
    assert len(source.wait_for(4)) == 4


@pytest.mark.parametrize(
    ("call", "body"),
    [
        ("track", sized(MAX_EVENT_BYTES + 1)),
        ("batch", {"batch": [sized(MAX_EVENT_BYTES)] * 4}),
        ("events", sized(MAX_BATCH_BYTES + 1)),
        ("events", sized(13 << 20)),
    ],
    ids=["event", "batch", "native", "gateway"],
)
def test_a_larger_body_is_413(source: Source, call: str, body: Any) -> None:
    response = send(source, call, body)
    assert response.status_code == 413
    assert "PayloadTooLarge" in response.text


def test_grpc_accepts_the_same_sizes(source: Source) -> None:
    event = pb.Event(
        type="track", event="E", user_id="u", properties_json=json.dumps({"text": "x" * (MAX_EVENT_BYTES - 200)})
    )
    with grpc.insecure_channel(f"127.0.0.1:{source.system.port}") as channel:
        result = EventServiceStub(channel).SendEvents(
            pb.SendEventsRequest(events=[event] * 2),
            metadata=(("authorization", f"Bearer {source.write_key}"),),
            timeout=30,
        )
    assert result.accepted == 2
