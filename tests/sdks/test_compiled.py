"""Programs with the SDKs of compiled languages: all six calls arrive, also after refused attempts."""

from collections import Counter
from pathlib import Path

import pytest

from tests.clients.blocks import RegistryUnreachable, missing
from tests.e2e.source import Source
from tests.sdks.compiled import COMPILE_TIMEOUT_SECONDS, TOOLCHAINS, run_example
from tests.sdks.recorder import Fault, Recorder

CALLS = Counter(("alias", "group", "identify", "page", "screen", "track"))
FAULTS: dict[str, tuple[Fault, ...]] = {
    **dict.fromkeys(TOOLCHAINS, ("429", "503", "dropped")),
    "rudderanalytics": ("429", "503"),
    "segment": (),
}
"""Responses after which an SDK sends events again, with message ids, by its package; docs/sdks.md lists the others."""


@pytest.mark.timeout(2 * COMPILE_TIMEOUT_SECONDS)
@pytest.mark.parametrize("package", TOOLCHAINS)
def test_each_call_of_an_example_is_stored_once(
    package: str, source: Source, recorder: Recorder, tmp_path: Path
) -> None:
    if reason := missing(package, TOOLCHAINS[package]):
        pytest.skip(reason)
    recorder.break_next(*FAULTS[package])
    folder = tmp_path / "shop"
    folder.mkdir()
    try:
        run_example(package, source.write_key, recorder.address, folder)
    except RegistryUnreachable as error:
        pytest.skip(str(error))
    assert source.send("track", {"userId": "u1", "event": "Last"}).status_code == 200
    stored = [event for event in source.wait_for(7) if event.get("event") != "Last"]
    assert Counter(event["type"] for event in stored) == CALLS
    [track] = [event for event in stored if event["type"] == "track"]
    assert (track["event"], track["properties"]) == ("Order Completed", {"total": 9.5})
    assert all(event["userId"] == "u1" for event in stored)
