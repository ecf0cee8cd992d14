"""Destinations that misbehave: each ends in the documented state, and the others and the courier notice nothing.

HEADWATER_SLOW_DESTINATIONS=1 also waits for the time limits of requests.
"""

import base64
import gzip
import json
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from tests.connectors.server import self_signed
from tests.delivery.conftest import SECRET
from tests.e2e.receiver import Answer, Received, receiver
from tests.e2e.source import get, make_source
from tests.e2e.test_delivery import DELIVERED_WITHIN_SECONDS, add_destination, connect, numbers, send
from tests.system import HTTP, RunningSystem, start, wait_until

IS_SLOW: Final = os.environ.get("HEADWATER_SLOW_DESTINATIONS") == "1"
TOKEN: Final = "a-token-that-must-stay-secret-7f3a"
WRITE_KEY: Final = "a-write-key-that-must-stay-secret"
FORBIDDEN: Final = "http://127.0.0.2:9/"
SECRETS: Final = (
    TOKEN,
    WRITE_KEY,
    SECRET,
    SECRET.removeprefix("whsec_"),
    base64.b64encode(f"{WRITE_KEY}:".encode()).decode(),
)
"""The secrets of settings, in the forms in which they are sent."""
JSON: Final = {"content-type": "application/json"}
EVENTS: Final = 5
WAIT_SECONDS: Final = 600


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    folder = tmp_path_factory.mktemp("bad") / "data"
    system = start(folder, HEADWATER_ALLOW_PRIVATE_DESTINATIONS="127.0.0.1/32")
    courier = system.children()["courier"]
    try:
        yield system
        assert system.children()["courier"] == courier
    finally:
        assert system.stop() == 0, system.errors
    assert "Traceback" not in system.errors


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    with receiver(answer) as running:
        yield running.url


@contextmanager
def connected(treat: Callable[[socket.socket], None], host: str = "127.0.0.1") -> Iterator[str]:
    """Run a server that treats each connection in a thread of its own; yield its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def accept() -> None:
            with suppress(OSError):  # closed
                while True:
                    threading.Thread(target=run, args=(listening.accept()[0],), daemon=True).start()

        def run(connection: socket.socket) -> None:
            with connection, suppress(OSError):
                treat(connection)

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"http://{host}:{listening.getsockname()[1]}/hook"
        finally:
            listening.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang(connection: socket.socket) -> None:
    connection.settimeout(WAIT_SECONDS)
    while connection.recv(65_536):
        pass


def talk_nonsense(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"\0\1\2\3 this is not HTTP\r\n\r\n" + bytes(1_000))


def end_early(connection: socket.socket) -> None:
    connection.recv(65_536)
    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")


@contextmanager
def untrusted(folder: Path) -> Iterator[str]:
    tls = self_signed(folder)

    def shake_hands(connection: socket.socket) -> None:
        with suppress(ssl.SSLError):
            tls.wrap_socket(connection, server_side=True).recv(1)

    with connected(shake_hands, "localhost") as url:
        yield url.replace("http:", "https:")


def repeat_secrets(received: Received) -> tuple[int, dict[str, str], bytes]:
    return 500, {}, f"{dict(received.headers)} {SECRET}".encode()


BOMB: Final = gzip.compress(bytes(10_000_000))


class Case(NamedTuple):
    """A destination that fails as a whole."""

    serve: Callable[[Path], AbstractContextManager[str]]
    """Runs it; yields its URL."""
    error: str
    """The start of its last error."""
    is_refusing: bool = False
    pause_seconds: float = 0.0
    """Minimum pause after the first request."""


def answer(status: int, body: bytes = b"", **headers: str) -> Callable[[Path], AbstractContextManager[str]]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda _: answering(lambda _: (status, named, body))


CASES: Final = {
    "resets": Case(lambda _: connected(reset), "Disconnected"),
    "speaks no HTTP": Case(lambda _: connected(talk_nonsense), "InvalidResponse"),
    "ends early": Case(lambda _: connected(end_early), "Disconnected"),
    "redirects": Case(answer(302, location=FORBIDDEN), "Status302"),
    "sends a bomb": Case(answer(500, BOMB, content_encoding="gzip"), "Status500"),
    "presents bad TLS": Case(untrusted, "TlsFailed"),
    "throttles": Case(answer(429, b"slow down", retry_after="1800"), "Status429: slow down", pause_seconds=1_700),
    "is gone": Case(answer(410), "Status410", is_refusing=True, pause_seconds=3_500),
    "is private": Case(lambda _: nullcontext(FORBIDDEN), "AddressForbidden", is_refusing=True, pause_seconds=3_500),
    "does not know us": Case(answer(401, b"go away"), "Status401: go away"),
    "repeats secrets": Case(lambda _: answering(repeat_secrets), "Status500"),
}
if IS_SLOW:
    CASES["hangs"] = Case(lambda _: connected(hang), "TimedOut")


def find_secrets(system: RunningSystem, *responses: Any) -> list[str]:
    """Return the files and responses that have a secret of the settings in clear."""
    texts = {str(path): path.read_bytes() for path in system.data_dir.rglob("*") if path.is_file()}
    texts |= {str(response): json.dumps(response).encode() for response in responses}
    return [name for name, text in texts.items() if any(secret.encode() in text for secret in SECRETS)]


def seconds_until(moment: str) -> float:
    return (datetime.fromisoformat(moment) - datetime.now(UTC)).total_seconds()


def check(system: RunningSystem, name: str, destination: int) -> Any:
    """Check the state of a destination that has failed; return it."""
    case, path = CASES[name], f"/v1/connections/{destination}/delivery"
    wait_until(lambda: get(system, path)["lastError"] != "", DELIVERED_WITHIN_SECONDS)
    queue = get(system, path)
    assert queue["lastError"].startswith(case.error), (name, queue)
    assert (queue["health"] == "Refusing") == case.is_refusing, (name, queue)
    assert (queue["openItems"], queue["deadItems"]) == (str(EVENTS), "0"), (name, queue)
    assert "failingSince" in queue, (name, queue)
    if case.pause_seconds:
        assert queue["failures"] <= EVENTS, (name, queue)  # those that were in flight
        assert seconds_until(queue["pausedUntil"]) > case.pause_seconds, (name, queue)
    return queue


def test_a_destination_that_fails_pauses_and_no_other_notices(system: RunningSystem, tmp_path: Path) -> None:
    source = make_source(system)
    with ExitStack() as servers:
        healthy = servers.enter_context(receiver())
        headers = [{"key": "x-token", "value": TOKEN}]
        destinations = {
            name: add_destination(source, servers.enter_context(case.serve(tmp_path)), headers=headers)
            for name, case in CASES.items()
        }
        add_destination(source, healthy.url)
        send(source, [f"user-{number}" for number in range(EVENTS)])
        wait_until(lambda: len(healthy.requests) == EVENTS, 15)
        queues = [check(system, name, destination) for name, destination in destinations.items()]
        assert sorted(numbers(healthy)) == list(range(EVENTS))
    trace = get(system, "/v1/events/m0/trace")
    assert find_secrets(system, trace, *queues) == []


def test_a_destination_can_be_deleted_while_requests_hang(system: RunningSystem) -> None:
    source = make_source(system)
    in_flight = threading.Event()

    def note_and_hang(connection: socket.socket) -> None:
        in_flight.set()
        hang(connection)

    with receiver() as healthy, connected(note_and_hang) as url:
        add_destination(source, healthy.url)
        hanging = add_destination(source, url)
        send(source, [f"user-{number}" for number in range(EVENTS)])
        assert in_flight.wait(DELIVERED_WITHIN_SECONDS)
        deleted = HTTP.delete(f"{system.base_url}/v1/connections/{hanging}", headers=system.authorization)
        assert deleted.status_code == 200, deleted.text
        send(source, ["ann"] * EVENTS, EVENTS)
        wait_until(lambda: len(healthy.requests) == 2 * EVENTS, DELIVERED_WITHIN_SECONDS)
        path = f"{system.base_url}/v1/connections/{hanging}/delivery"
        assert HTTP.get(path, headers=system.authorization).status_code == 404


@pytest.mark.parametrize(
    ("connector", "answer", "reason", "attempts"),
    [
        ("http-webhook", (400, {}, f"{SECRET} {TOKEN}".encode()), "Status400", 1),
        ("http-webhook", (413, {}, b""), "Status413", 1),
        ("dummy", (200, JSON, b'{"results":[{"index":7,"outcome":"Retry"}]}'), "UnexpectedResponse", 2),
        ("dummy", (200, JSON, b"[" * 10_000), "UnexpectedResponse", 2),
        ("dummy", (200, {**JSON, "content-encoding": "gzip"}, BOMB), "UnexpectedResponse", 2),
        ("dummy", (200, JSON, b'{"results":[{"index":0,"outcome":"Rejected","reason":"No"}]}'), "No", 1),
        ("segment-api", (200, {}, b"<html>Welcome!</html>"), "UnexpectedResponse", 2),
        ("segment-api", (200, JSON, b'{"success":false}'), "UnexpectedResponse", 2),
    ],
)
def test_a_refused_event_is_a_dead_letter(
    system: RunningSystem, connector: str, answer: tuple[int, dict[str, str], bytes], reason: str, attempts: int
) -> None:
    source = make_source(system)
    with receiver(lambda _: answer) as server:
        settings: dict[str, dict[str, Any]] = {
            "http-webhook": {"url": server.url, "secret": SECRET, "headers": [{"key": "x-token", "value": TOKEN}]},
            "dummy": {"urlForDispatchingEvents": server.url},
            "segment-api": {"writeKey": WRITE_KEY, "endpoint": server.url},
        }
        event_type = "send_event_with_no_schema" if connector == "dummy" else "send_event"
        destination = connect(source, connector, settings[connector], event_type)
        send(source, ["ann"])
        path = f"/v1/dead-letters?destination={destination}"
        wait_until(lambda: get(system, path)["deadLetters"] != [], DELIVERED_WITHIN_SECONDS)
    [letter] = get(system, path)["deadLetters"]
    assert (letter["reason"], letter["attempts"], letter["status"]) == (reason, attempts, answer[0])
    assert json.loads(letter["eventJson"])["properties"] == {"n": 0}
    queue = get(system, f"/v1/connections/{destination}/delivery")
    assert (queue["health"], queue["openItems"], queue["deadItems"]) == ("Closed", "0", "1")
    assert get(system, f"/v1/dead-letters/counts?destination={destination}")["counts"][0]["reason"] == reason
    assert find_secrets(system, letter, queue, get(system, "/v1/events/m0/trace")) == []
