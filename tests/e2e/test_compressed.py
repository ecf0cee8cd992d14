"""Compressed bodies on every route of the intake: what is corrupt, cut short or a bomb is refused, and nothing of it is
stored; and the largest batches."""

import gzip
import json
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.carried import stored, until_carried
from tests.e2e.routes import ROUTES, Route
from tests.e2e.source import Source, get, make_source
from tests.system import RunningSystem, start, wait_until


def bomb() -> bytes:
    """200 KB on the wire, which become 200 MB."""
    deflate = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    return b"".join(deflate.compress(b" " * 1_000_000) for _ in range(200)) + deflate.flush()


BOMB = bomb()
NESTED_BOMB = gzip.compress(BOMB)
MANY = 10_000
MANIFOLD = [route for route in ROUTES if route.path in ("/v1/batch", "/v1/events", "/api/client/events")]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """One of its own: other tests read all events that there are, and here are many."""
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
    """Compressed bodies of which nothing can be trusted."""
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
def test_what_is_compressed_is_taken_whole_or_not_at_all(
    client: httpx.Client, system: RunningSystem, route: Route
) -> None:
    source = make_source(system)
    content = route.content()
    for encoding, compressed in (("gzip", gzip.compress(content)), ("deflate", zlib.compress(content))):
        answer = send(client, source, route, compressed, content_encoding=encoding)
        assert answer.status_code == route.accepted, answer.text
    for body in spoilt(gzip.compress(content)):
        answer = send(client, source, route, body, content_encoding="gzip")
        assert answer.status_code == route.bad, (body, answer.text)
    for body in (BOMB, NESTED_BOMB * 10):
        answer = send(client, source, route, body, content_encoding="gzip")
        assert answer.status_code in (route.bad, 413), answer.text
    answer = send(client, source, route, content, content_encoding="br")
    assert answer.status_code == route.bad, answer.text
    until_carried(source)
    assert stored(source) == 2 * route.events + 1


def large(route: Route) -> Any:
    """As many events as one may send in one call."""
    match route.path:
        case "/v1/batch":
            return {"batch": [{"type": "track", "userId": "u", "event": "E"}] * MANY}
        case "/v1/events":
            return [{"type": "track", "userId": "u", "event": "E"}] * MANY
        case _:
            return [{"external_id": "u", "name": "E"}] * MANY


@pytest.mark.parametrize("route", MANIFOLD, ids=str)
def test_ten_thousand_events_in_one_call(client: httpx.Client, source: Source, route: Route) -> None:
    before = stored(source)
    content = json.dumps(large(route), separators=(",", ":")).encode()
    assert send(client, source, route, content).status_code == route.accepted
    assert send(client, source, route, gzip.compress(content), content_encoding="gzip").status_code == route.accepted
    wait_until(lambda: stored(source) == before + 2 * MANY, 60)


@pytest.mark.parametrize("element", ["5", "{}", "null", "[]", '{"type":"track"}', '""'])
@pytest.mark.parametrize("route", MANIFOLD, ids=str)
def test_ten_thousand_elements_that_are_no_events(
    client: httpx.Client, source: Source, route: Route, element: str
) -> None:
    until_carried(source)
    before = stored(source)
    array = "[" + ",".join([element] * MANY) + "]"
    content = (f'{{"batch":{array}}}' if route.path == "/v1/batch" else array).encode()
    answer = send(client, source, route, content)
    assert answer.status_code in (200, 400, 422), answer.text
    assert len(answer.content) < 10_000
    until_carried(source)
    assert stored(source) == before + 1


def test_nothing_that_was_accepted_could_not_be_read_again(client: httpx.Client, source: Source) -> None:
    until_carried(source)
    assert "InternalServerError" not in {
        count["code"] for count in get(source.system, "/v1/events/rejected/counts")["counts"]
    }
