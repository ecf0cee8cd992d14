"""What every SDK sends arrives as it was sent, member by member and digit by digit."""

import pytest

from tests.e2e.source import Source
from tests.sdks.arrival import assert_arrived, contains, sayable, sent_events, stored_events
from tests.sdks.calls import calls
from tests.sdks.conftest import EVERYWHERE, Sdk
from tests.sdks.javascript import INSTALL_TIMEOUT_S
from tests.sdks.recorder import Recorder
from tests.sdks.snippets import SNIPPETS

pytestmark = pytest.mark.timeout(INSTALL_TIMEOUT_S + 60)  # the first one may have to install the SDKs


def test_every_sdk_that_is_documented_is_tested() -> None:
    assert SNIPPETS.keys() == EVERYWHERE.keys()


def test_what_arrives_is_what_was_sent(sdk: Sdk, source: Source, recorder: Recorder) -> None:
    said = calls(sdk.package)
    sdk.send(source.write_key, recorder.address, said)
    stored = stored_events(source, len(said))
    sent = {event.message_id: event for event in sent_events(recorder.posts)}
    assert stored.keys() == sent.keys()
    for message_id, event in sent.items():
        assert_arrived(event, stored[message_id], source.id)
    assert len(stored) == len(said)
    for call in said:
        # What the SDK makes of a time of the caller is its own affair, and one of them takes no message id.
        members = {name: value for name, value in call.items() if name not in ("timestamp", "messageId")}
        assert [contains(document, sayable(members)) for document in stored.values()].count(True) == 1, call


def test_more_than_a_batch_of_events_arrives(server_sdk: Sdk, source: Source, recorder: Recorder) -> None:
    count = 250
    said = [
        {"type": "track", "userId": f"u{number % 7}", "event": "Counted", "properties": {"number": number}}
        for number in range(count)
    ]
    server_sdk.send(source.write_key, recorder.address, said)
    stored = stored_events(source, count)
    assert sorted(int(event["properties"]["number"].text) for event in stored.values()) == list(range(count))
    for event in sent_events(recorder.posts):
        assert_arrived(event, stored[event.message_id], source.id)
