"""Clients in many languages, as docs/clients.md has them, against one running system."""

import re

import pytest

from tests.clients.blocks import COMMANDS, EXCERPTS, ROOT, TOOLCHAINS, RegistryUnreachable, missing, run
from tests.clients.breaking import breaking_proxy
from tests.e2e.source import get
from tests.system import RunningSystem

INSTALL_TIMEOUT_SECONDS = 400
COMPILE_TIMEOUT_SECONDS = 1_700
CREATED = re.compile(r"^created source (\d+) with pipeline (\d+)$", re.MULTILINE)
FILTER = {
    "logical": "and",
    "conditions": [{"property": "event", "operator": "is", "values": ["Order Completed"]}],
}


def test_the_page_has_the_commands_of_each_client() -> None:
    assert COMMANDS.keys() == TOOLCHAINS.keys()


@pytest.mark.parametrize(("path", "excerpt"), EXCERPTS, ids=[path for path, _ in EXCERPTS])
def test_an_excerpt_is_part_of_its_program(path: str, excerpt: str) -> None:
    program = [line.strip() for line in (ROOT / path).read_text().splitlines()]
    lines = [line.strip() for line in excerpt.splitlines()]
    assert any(program[at : at + len(lines)] == lines for at in range(len(program))), excerpt


@pytest.mark.timeout(COMPILE_TIMEOUT_SECONDS + 100)
@pytest.mark.parametrize("client", TOOLCHAINS)
def test_a_client_does_everything(system: RunningSystem, client: str) -> None:
    """A client survives a connection that breaks while it sends events, and each event is stored once."""
    if reason := missing(client):
        pytest.skip(reason)
    timeout = COMPILE_TIMEOUT_SECONDS if TOOLCHAINS[client].is_slow else INSTALL_TIMEOUT_SECONDS
    with breaking_proxy(system.port) as proxy:
        try:
            output = run(client, f"http://127.0.0.1:{proxy.port}", system.api_key, timeout)
        except RegistryUnreachable as error:
            pytest.skip(str(error))
    assert proxy.breaks == 1, output
    created = CREATED.findall(output)
    assert created, output
    for source, pipeline in created:
        stored = _message_ids(system, source)
        assert stored == {f"{source}-{request}-{index}" for request in range(20) for index in range(1, 10, 2)}
        assert get(system, f"/v1/pipelines/{pipeline}")["filter"] == FILTER
    steps = [
        "streamed 20 requests",
        "read 100 events in 3 pages",
        "error BadRequest in name",
    ]
    assert [output.count(step) for step in steps] == [len(created)] * 3, output


def _message_ids(system: RunningSystem, source: str) -> set[str]:
    """Return the message ids of the stored events of a source, which are distinct."""
    events = get(system, f"/v1/events?connection={source}&limit=1000")["events"]
    found = {event["messageId"] for event in events}
    assert len(found) == len(events)
    return found
