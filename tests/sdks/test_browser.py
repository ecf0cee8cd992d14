"""Options of browser SDKs in a page."""

import pytest

from tests.e2e.source import Source
from tests.sdks.arrival import assert_arrived, sent_events, stored_events
from tests.sdks.calls import calls
from tests.sdks.chromium import Chromium
from tests.sdks.javascript import INSTALL_TIMEOUT_SECONDS, send_from_browser
from tests.sdks.recorder import Recorder

pytestmark = pytest.mark.timeout(INSTALL_TIMEOUT_SECONDS + 60)  # the first one may have to install the SDKs

INTEGRATIONS = {
    "@segment/analytics-next": "Segment.io",
    "@customerio/cdp-analytics-browser": "Customer.io Data Pipelines",
}
BATCHING = {"deliveryStrategy": {"strategy": "batching", "config": {"size": 4, "timeout": 200}}}


@pytest.mark.parametrize("package", INTEGRATIONS)
def test_batches_of_a_browser_are_stored(package: str, browser: Chromium, source: Source, recorder: Recorder) -> None:
    made = calls(package)
    send_from_browser(
        browser, package, source.write_key, recorder.address, made, {"integrations": {INTEGRATIONS[package]: BATCHING}}
    )
    assert [request.path for request in recorder.requests if request.method == "GET"] == [
        f"/v1/projects/{source.write_key}/settings"
    ]
    assert {request.path for request in recorder.posts} == {"/v1/b"}
    stored = stored_events(source, len(made))
    sent = sent_events(recorder.posts)
    assert stored.keys() == {event.message_id for event in sent}
    for event in sent:
        assert_arrived(event, stored[event.message_id], source.id)
