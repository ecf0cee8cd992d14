"""The settings that SDKs request before they send events."""

import json

import pytest

from headwater.base.errors import NotFound, Unauthorized
from headwater.catalog import Connection
from headwater.intake import native_settings, project_settings
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.event_write_keys import create_event_write_key
from tests.harness import Harness, open_harness


async def test_the_segment_family_sends_everything_here_and_nothing_elsewhere(
    harness: Harness, source: Connection
) -> None:
    key = source.event_write_keys[0]
    settings = json.loads(await project_settings(harness.catalog, key, scheme="https", authority="e.example:8443"))
    assert set(settings["integrations"]) == {"Segment.io", "Customer.io Data Pipelines"}
    for destination in settings["integrations"].values():
        assert (destination["apiKey"], destination["apiHost"], destination["protocol"]) == (
            key,
            "e.example:8443/v1",
            "https",
        )
        # Either would make an SDK load the other's destination as a script.
        assert destination["bundlingStatus"] == "unbundled"
        assert destination["type"] != "browser"
    assert settings["metrics"] == {"sampleRate": 0}, "SDKs would report on themselves to their vendor"
    assert settings["plan"]["track"]["__default"]["enabled"] is True


async def test_an_unknown_key_has_no_settings(harness: Harness, source: Connection) -> None:
    with pytest.raises(NotFound):
        await project_settings(harness.catalog, "unknown", scheme="http", authority="a")
    with pytest.raises(Unauthorized, match=r"^the write key is not known$"):
        await native_settings(harness.catalog, "unknown")
    with pytest.raises(Unauthorized, match=r"^the write key is not that of a client-side source$"):
        await native_settings(harness.catalog, source.event_write_keys[0])


async def test_a_key_that_another_process_made_is_known_immediately(harness: Harness) -> None:
    request = CreateConnection(name="Web", role="Source", connector="javascript", strategy="Isolation")
    web = await create_connection(harness.catalog, harness.workspace, request)
    async with open_harness(harness.folder, harness.clock) as other:
        key = await create_event_write_key(other.catalog, harness.workspace, web.id)
    assert json.loads(await native_settings(harness.catalog, key))["strategy"] == "Isolation"
