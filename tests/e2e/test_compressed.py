"""Compressed bodies on every route of the intake: corrupt, incomplete and extremely compressed ones are rejected and
leave nothing stored; and the largest batches."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.routes import ROUTES, Route
from tests.e2e.source import Source, get, make_source
from tests.e2e.stored import stored, wait_until_processed
from tests.system import RunningSystem, start, wait_until


def bomb() -> bytes:
    """Return 200 KB of compressed data, which decompress to 200 MB."""
    deflate = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return b"".join(deflate.compress(b" " * 1_000_000) for _ in range(200)) + deflate.flush()


BOMB = bomb()
NESTED_BOMB = gzip.compress(BOMB)
MANY = 10_000
MANIFOLD = [route for route in ROUTES if route.path in ("/v1/batch", "/v1/events", "/api/client/events")]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """Start a separate system: other tests read all stored events, and these are many."""
    running = start(tmp_path_factory.mktemp("system") / "data")
    yield running
    assert running.stop() == 0, running.errors


@pytest.fixture(scope="module")
def source(system: RunningSystem) -> Source:
    return make_source(system)


@pytest.fixture(scope="module")
def client(system: RunningSystem) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=system.base_url, timeout=30) as client:
        yield client


def send(client: httpx.Client, source: Source, route: Route, body: bytes, **headers: str) -> httpx.Response:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.post(route.path, content=body, headers=route.headers_for(source) | names)


def spoilt(compressed: bytes) -> list[bytes]:
    """Return damaged compressed bodies."""
    middle = len(compressed) // 2
    return [
        b"",
        compressed[:1],
        compressed[:middle],
        compressed[:-1],  # its length is incomplete
        compressed[:-8],  # its checksum and length are missing
        compressed[:-8] + b"\0\0\0\0" + compressed[-4:],  # its checksum is wrong
        compressed[:middle] + bytes([compressed[middle] ^ 0xFF]) + compressed[middle + 1 :],
        compressed + b"tail",
        b"\x1f\x8b" + bytes(100),
        b"not compressed at all",
    ]


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_compressed_body_is_accepted_completely_or_not_at_all(
    client: httpx.Client, system: RunningSystem, route: Route
) -> None:
    source = make_source(system)
    content = route.content()
    for encoding, compressed in (("gzip", gzip.compress(content)), ("deflate", zlib.compress(content))):
        response = send(client, source, route, compressed, content_encoding=encoding)
        assert response.status_code == route.accepted, response.text
    for body in spoilt(gzip.compress(content)):
        response = send(client, source, route, body, content_encoding="gzip")
        assert response.status_code == route.bad, (body, response.text)
    for body in (BOMB, NESTED_BOMB * 10):
        response = send(client, source, route, body, content_encoding="gzip")
        assert response.status_code in (route.bad, 413), response.text
    response = send(client, source, route, content, content_encoding="br")
    assert response.status_code == route.bad, response.text
    wait_until_processed(source)
    assert stored(source) == 2 * route.events + 1


def large(route: Route) -> Any:
    """Return a body with the maximum number of events of one call."""
    match route.path:
        case "/v1/batch":
            return {"batch": [{"type": "track", "userId": "u", "event": "E"}] * MANY}
        case "/v1/events":
            return [{"type": "track", "userId": "u", "event": "E"}] * MANY
        case _:
            return [{"external_id": "u", "name": "E"}] * MANY


@pytest.mark.parametrize("route", MANIFOLD, ids=str)
def test_ten_thousand_events_in_one_call_are_stored(client: httpx.Client, source: Source, route: Route) -> None:
    before = stored(source)
    content = json.dumps(large(route), separators=(",", ":")).encode()
    assert send(client, source, route, content).status_code == route.accepted
    assert send(client, source, route, gzip.compress(content), content_encoding="gzip").status_code == route.accepted
    wait_until(lambda: stored(source) == before + 2 * MANY, 60)


@pytest.mark.parametrize("route", MANIFOLD, ids=str)
def test_ten_thousand_invalid_events_have_a_small_response(client: httpx.Client, source: Source, route: Route) -> None:
    wait_until_processed(source)
    before = stored(source)
    for element in ("5", "{}", "null", "[]", '{"type":"track"}', '""'):
        array = "[" + ",".join([element] * MANY) + "]"
        content = (f'{{"batch":{array}}}' if route.path == "/v1/batch" else array).encode()
        response = send(client, source, route, content)
        assert response.status_code in (200, 400, 422), response.text
        assert len(response.content) < 10_000, element
    wait_until_processed(source)
    assert stored(source) == before + 1


def test_every_accepted_event_can_be_read(client: httpx.Client, source: Source) -> None:
    wait_until_processed(source)
    assert "InternalServerError" not in {
        count["code"] for count in get(source.system, "/v1/events/rejected/counts")["counts"]
    }
