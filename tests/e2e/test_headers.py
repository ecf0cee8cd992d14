"""Headers that mean nothing to REST, but something to gRPC, have no effect; too large ones are 431."""

import pytest

from tests.e2e.source import make_source
from tests.system import HTTP, RunningSystem


@pytest.mark.parametrize(
    "header",
    ["a#b", "a!b", "trace-bin", "grpc-timeout", "grpc-encoding", "grpc-status", "grpc-tags-bin", "te"],
)
@pytest.mark.parametrize("value", ["x", "AAAA", "1n", "", "é".encode()])
def test_a_header_that_is_invalid_in_grpc_has_no_effect(system: RunningSystem, header: str, value: str | bytes) -> None:
    headers = [*system.authorization.items(), (header, value)]
    encoded = [(name.encode(), text if isinstance(text, bytes) else text.encode()) for name, text in headers]
    assert HTTP.get(f"{system.base_url}/v1/events?limit=1", headers=encoded, timeout=15).status_code == 200


@pytest.mark.parametrize("size", [9_000, 17_000, 30_000])
def test_headers_up_to_32_kib_are_accepted(system: RunningSystem, size: int) -> None:
    headers = {**system.authorization, "cookie": "c" * size}
    assert HTTP.get(f"{system.base_url}/v1/events?limit=1", headers=headers, timeout=15).status_code == 200


def test_larger_headers_are_431(system: RunningSystem) -> None:
    headers = {**system.authorization, "cookie": "c" * 40_000}
    response = HTTP.get(f"{system.base_url}/v1/connections", headers=headers, timeout=15)
    assert (response.status_code, response.json()["error"]["code"]) == (431, "HeadersTooLarge")


def test_events_of_a_page_with_large_cookies_are_stored(system: RunningSystem) -> None:
    source = make_source(system)
    assert source.send("track", {"userId": "ada", "event": "Seen"}, cookie="c" * 20_000, **{"x-a!b": "1"}).json() == {}
    assert len(source.wait_for(1)) == 1
