"""Events of every SDK are stored unchanged, member by member and digit by digit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.source import Source
from tests.sdks.arrival import (
    assert_arrived,
    contains,
    representable,
    sent_events,
    stored_events,
    without_nulls,
)
from tests.sdks.calls import calls
from tests.sdks.compiled import TOOLCHAINS
from tests.sdks.conftest import EXAMPLES, Sdk
from tests.sdks.javascript import (
    FOLDER,
    INSTALL_TIMEOUT_SECONDS,
    MISSING_CALLS,
    MISSING_MEMBERS,
    WITHOUT_NULLS_IN_CONTEXT,
)
from tests.sdks.recorder import Recorder
from tests.sdks.snippets import INSTALLATIONS, SNIPPETS
from tests.system import RunningSystem

pytestmark = pytest.mark.timeout(INSTALL_TIMEOUT_SECONDS + 60)  # the first one may have to install the SDKs

COMMANDS = ("connection", "check")
"""The blocks with commands."""
EVENT = '{"userId": "u1", "event": "Order Completed"}'


def test_every_sdk_that_is_documented_is_tested() -> None:
    assert SNIPPETS.keys() == {*EXAMPLES, *TOOLCHAINS, *COMMANDS}
    assert INSTALLATIONS.keys() == {package.partition(":")[0] for package in EXAMPLES} | TOOLCHAINS.keys()


def test_the_page_installs_the_tested_packages() -> None:
    npm = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    for package in {package.partition(":")[0] for package in EXAMPLES}:
        tool = "npm" if package in npm else "pip"
        assert INSTALLATIONS[package] == f"{tool} install {package}\n"


def test_the_commands_of_the_page_make_a_source_and_find_its_event(system: RunningSystem) -> None:
    send = f"curl -sS -u $(headwater connections keys $SOURCE): {system.base_url}/v1/track -d '{EVENT}'\nsleep 1\n"
    done = subprocess.run(
        ["bash", "-euc", SNIPPETS["connection"] + send + SNIPPETS["check"]],
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HEADWATER_URL": system.base_url,
            "HEADWATER_API_KEY": system.api_key,
            "no_proxy": "127.0.0.1",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Order Completed") == 2, done.stdout


def test_events_are_stored_as_sent(sdk: Sdk, source: Source, recorder: Recorder) -> None:
    made = [call for call in calls(sdk.package) if call["type"] not in MISSING_CALLS.get(sdk.package, ())]
    sdk.send(source.write_key, recorder.address, made)
    stored = stored_events(source, len(made))
    sent = {event.message_id: event for event in sent_events(recorder.posts)}
    assert stored.keys() == sent.keys()
    for message_id, event in sent.items():
        assert_arrived(event, stored[message_id], source.id)
    assert len(stored) == len(made)
    # SDKs convert times of the caller in their own way, and some of them take no message id.
    not_compared = {"timestamp", "messageId", *MISSING_MEMBERS.get(sdk.package, ())}
    for call in made:
        members = {name: value for name, value in call.items() if name not in not_compared}
        if "context" in members and sdk.package in WITHOUT_NULLS_IN_CONTEXT:
            members["context"] = without_nulls(members["context"])
        assert [contains(document, representable(members)) for document in stored.values()].count(True) == 1, call


def test_more_events_than_a_batch_are_stored(server_sdk: Sdk, source: Source, recorder: Recorder) -> None:
    count = 250
    made = [
        {"type": "track", "userId": f"u{number % 7}", "event": "Counted", "properties": {"number": number}}
        for number in range(count)
    ]
    server_sdk.send(source.write_key, recorder.address, made)
    stored = stored_events(source, count)
    assert sorted(int(event["properties"]["number"].text) for event in stored.values()) == list(range(count))
    for event in sent_events(recorder.posts):
        assert_arrived(event, stored[event.message_id], source.id)
