"""Behind trusted proxies, events have the address of the user, with every protocol."""

from collections.abc import Iterator

import grpc
import pytest

from headwater.v1 import events_pb2 as events
from headwater.v1.events_pb2_grpc import EventServiceStub
from tests.e2e.source import make_source
from tests.system import HTTP, RunningSystem, start

PERSON = "192.0.2.1"
FORWARDED = {"x-forwarded-for": f"203.0.113.9, {PERSON}, 10.1.2.3", "x-forwarded-proto": "https"}
EVENT = {"type": "track", "userId": "u", "event": "E"}


@pytest.fixture(scope="module", params=["2", "127.0.0.0/8,10.0.0.0/8", "0"])
def behind(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[RunningSystem, str]]:
    """Start a system; yield it, and the address that it should take for the user's."""
    running = start(tmp_path_factory.mktemp("system") / "data", HEADWATER_TRUSTED_PROXIES=request.param)
    yield running, "127.0.0.1" if request.param == "0" else PERSON
    assert running.stop() == 0, running.errors


def test_events_have_the_address_of_the_user(behind: tuple[RunningSystem, str]) -> None:
    system, address = behind
    source = make_source(system, connector="javascript", strategy="Conversion")
    assert source.send("track", {"userId": "u", "event": "E"}, **FORWARDED).status_code == 200
    bearer = {"authorization": f"Bearer {source.write_key}"}
    native = HTTP.post(f"{system.base_url}/v1/events", json=[EVENT], headers=bearer | FORWARDED)
    assert native.status_code == 200, native.text
    with grpc.insecure_channel(f"127.0.0.1:{system.port}") as channel:
        request = events.SendEventsRequest(events=[events.Event(type="track", user_id="u", event="E")])
        metadata = tuple((bearer | FORWARDED).items())
        assert EventServiceStub(channel).SendEvents(request, metadata=metadata).accepted == 1
    assert [event["context"]["ip"] for event in source.wait_for(3)] == [address] * 3


def test_settings_have_the_scheme_of_the_proxy(behind: tuple[RunningSystem, str]) -> None:
    system, _ = behind
    source = make_source(system, connector="javascript", strategy="Conversion")
    settings = HTTP.get(f"{system.base_url}/v1/projects/{source.write_key}/settings", headers=FORWARDED).json()
    assert settings["integrations"]["Segment.io"]["protocol"] == "https"
