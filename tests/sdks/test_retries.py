"""An SDK sends again a call without a response, which is stored once. It does not send again a call with a response."""

from collections import Counter

import pytest

from tests.e2e.source import Source, get
from tests.sdks.arrival import sent_events, stored_events
from tests.sdks.conftest import Sdk
from tests.sdks.javascript import INSTALL_TIMEOUT_SECONDS
from tests.sdks.recorder import Fault, Number, Recorder
from tests.system import wait_until

pytestmark = pytest.mark.timeout(INSTALL_TIMEOUT_SECONDS + 60)  # the first one may have to install the SDKs

FAULTS: tuple[Fault, ...] = ("429", "503", "dropped")
LOST: dict[str, tuple[Fault, ...]] = dict.fromkeys(
    (
        "@customerio/cdp-analytics-browser",
        "@customerio/cdp-analytics-browser:script",
        "@ht-sdks/events-sdk-js-browser",
        "@ht-sdks/events-sdk-js-browser:script",
    ),
    ("429", "503"),
) | dict.fromkeys(("@jitsu/js", "@jitsu/js:node"), FAULTS)
"""Responses after which an SDK does not send events again, by its package; docs/sdks.md lists them."""
TRACK = {"type": "track", "userId": "u1", "event": "Order Completed"}


def times_sent(recorder: Recorder) -> Counter[str]:
    """Return how often each message was on the wire."""
    return Counter(event.message_id for event in sent_events(recorder.posts))


def test_the_example_is_sent_again_until_it_arrives_and_stored_once(
    documented_sdk: Sdk, source: Source, recorder: Recorder
) -> None:
    faults = [fault for fault in FAULTS if fault not in LOST.get(documented_sdk.package, ())]
    recorder.break_next(*faults)
    documented_sdk.run_example(source.write_key, recorder.address)
    [(message_id, times)] = times_sent(recorder).items()
    assert times == len(faults) + 1
    assert source.send("track", {**TRACK, "messageId": "last"}).status_code == 200
    stored = stored_events(source, 2)
    assert stored.keys() == {message_id, "last"}
    assert stored[message_id]["event"] == "Order Completed"
    assert stored[message_id]["properties"]["total"] == Number("9.5")


def test_rejected_and_repeated_events_are_not_sent_again(sdk: Sdk, source: Source, recorder: Recorder) -> None:
    made = [
        {**TRACK, "messageId": "first"},
        {**TRACK, "messageId": "refused", "event": "x" * 1001},
        {**TRACK, "messageId": "first"},
        {**TRACK, "messageId": "last"},
    ]
    sdk.send(source.write_key, recorder.address, made)
    sent = sent_events(recorder.posts)
    assert len(sent) == len(made)
    [refused] = [event.message_id for event in sent if len(event.event["event"]) > 1000]
    accepted = {event.message_id for event in sent} - {refused}
    assert stored_events(source, len(accepted)).keys() == accepted

    def rejections() -> list[tuple[str, str]]:
        found = get(source.system, "/v1/events/rejected?limit=1000")["events"]
        return [(event["code"], event["path"]) for event in found if event.get("connection") == source.id]

    wait_until(lambda: rejections() == [("BadRequest", "event")], 60)


def test_a_call_with_an_unknown_key_is_not_sent_again(server_sdk: Sdk, recorder: Recorder) -> None:
    server_sdk.send("0" * 32, recorder.address, [TRACK])
    assert list(times_sent(recorder).values()) == [1]
