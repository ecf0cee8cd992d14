"""The protocol of the typed API: the track API with strict times."""

import json

import pytest
from msgspec import Raw

from headwater.base.errors import BadRequest
from headwater.events import DEFAULT_LIMITS, PROTOCOLS, Rejection, check_events
from headwater.events.wire import WireEvent

TYPED = PROTOCOLS["grpc"]
PAGE = {"type": "page", "userId": "u"}


@pytest.mark.parametrize("member", ["timestamp", "originalTimestamp", "sentAt"])
@pytest.mark.parametrize("time", ["soon", "253402300800 s and 0 ns", 1795306839, "1795306839", True, {}])
def test_a_time_that_is_not_iso_8601_is_rejected(member: str, time: object) -> None:
    body = json.dumps({"batch": [{**PAGE, member: time}, {**PAGE, member: "2026-11-22T12:00:00Z"}]}).encode()
    rejection, accepted = check_events(TYPED, TYPED.read_call("batch", body), DEFAULT_LIMITS)
    assert rejection == Rejection("BadRequest", member, f"{member} is not an ISO 8601 date and time")
    assert isinstance(accepted, WireEvent)


def test_the_other_rules_are_those_of_the_track_api() -> None:
    call = TYPED.read_call("batch", b'{"batch":[{"type":"page"},{"type":"Page","userId":"u"}]}')
    rejection, accepted = check_events(TYPED, call, DEFAULT_LIMITS)
    assert rejection == Rejection("BadRequest", "userId", "userId or anonymousId is required in a page event")
    assert isinstance(accepted, WireEvent)
    assert TYPED.read(Raw(call.events[1]), call)[0].type == "page"


def test_a_sent_at_of_the_call_is_held_to_the_same_rule() -> None:
    assert TYPED.read_call("batch", b'{"batch":[],"sentAt":"2026-11-22"}').sent_at == "2026-11-22"
    assert TYPED.read_call("batch", b'{"batch":[],"sentAt":""}').events == []
    with pytest.raises(BadRequest, match="sentAt is not an ISO 8601 date and time") as raised:
        TYPED.read_call("batch", b'{"batch":[],"sentAt":"0 s and -1 ns"}')
    assert raised.value.field == "sentAt"
