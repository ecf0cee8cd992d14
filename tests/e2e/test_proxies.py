"""Behind trusted proxies, events have the address of the user, with every protocol."""

import grpc
import pytest

from headwater.v1 import events_pb2 as events
from headwater.v1.events_pb2_grpc import EventServiceStub
from tests.e2e.source import make_source
from tests.system import HTTP, RunningSystem

PERSON = "192.0.2.1"
FORWARDED = {"x-forwarded-for": f"203.0.113.9, {PERSON}, 10.1.2.3", "x-forwarded-proto": "https"}
EVENT = {"type": "track", "userId": "u", "event": "E"}


@pytest.fixture(params=["configured_system", "system"])
def behind(request: pytest.FixtureRequest) -> tuple[RunningSystem, str]:
    """Return a system, and the address that it should take for the user's.

    The first one trusts the proxies of two networks, and by default a system trusts none; for other settings see
    tests/server/test_gateway.py.
    """
    running: RunningSystem = request.getfixturevalue(request.param)
    return running, PERSON if request.param == "configured_system" else "127.0.0.1"


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
