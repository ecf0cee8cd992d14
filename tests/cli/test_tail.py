"""`headwater events tail` prints each event once, also over a lost connection, and ends quietly."""

import argparse
import json
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import Mock

import pytest

from headwater.cli.api import Api
from headwater.cli.client import Client
from headwater.cli.errors import ApiError
from headwater.cli.tail import Lost, Sent, _Tail, format_delivery, format_event, parse_stream
from tests.cli.running import Shell
from tests.e2e.proxy import Proxy
from tests.system import HEADWATER, HTTP, RunningSystem


@dataclass
class Tail:
    """A running `headwater events tail`, whose lines are read as they come."""

    process: subprocess.Popen[str]
    lines: "queue.Queue[str]" = field(default_factory=queue.Queue)
    notes: "queue.Queue[str]" = field(default_factory=queue.Queue)

    def __enter__(self) -> "Tail":
        for stream, target in ((self.process.stdout, self.lines), (self.process.stderr, self.notes)):
            threading.Thread(target=self._read, args=(stream, target), daemon=True).start()
        self.wait_for_note("watching")
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(30)

    def _read(self, stream: Any, target: "queue.Queue[str]") -> None:
        with stream:
            for line in stream:
                target.put(line.rstrip("\n"))

    def next(self) -> str:
        """Return the next line of the output."""
        return self.lines.get(timeout=30)

    def interrupt(self) -> int:
        """Send Ctrl-C and return the exit status. A process that does not end prints the stacks of its threads."""
        self.process.send_signal(signal.SIGINT)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGABRT)
            self.process.wait(30)
            raise AssertionError("\n".join(self.notes.queue)) from None

    def wait_for_note(self, text: str) -> None:
        while text not in self.notes.get(timeout=30):
            pass


@pytest.fixture
def key(shell: Shell, system: RunningSystem) -> str:
    """Return the write key of a source whose events are stored."""
    shell.connect(system)
    arguments = ("--name", "Tail", "--role", "Source", "--connector", "http")
    source = shell.succeed("connections", "create", *arguments).output.strip()
    shell.succeed("pipelines", "create", "--connection", source, "--target", "Event", "--name", "x", "--enabled")
    return shell.succeed("connections", "keys", source).output.strip()


@pytest.fixture
def proxy(system: RunningSystem) -> Iterator[Proxy]:
    forwarding = Proxy(system.port)
    forwarding.open()
    yield forwarding
    forwarding.cut()


def send(system: RunningSystem, key: str, message: str, event: str = "Tailed") -> None:
    body = {"userId": "ada", "event": event, "messageId": message}
    HTTP.post(f"{system.base_url}/v1/track", json=body, auth=(key, "")).raise_for_status()


def start(system: RunningSystem, url: str, *arguments: str) -> Tail:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    environ |= {"HEADWATER_URL": url, "HEADWATER_API_KEY": system.api_key, "PYTHONFAULTHANDLER": "1"}
    command = [*HEADWATER, "events", "tail", *arguments]
    return Tail(
        subprocess.Popen(
            command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, stdin=subprocess.DEVNULL
        )
    )


def test_events_are_printed_once_over_a_lost_connection(system: RunningSystem, key: str, proxy: Proxy) -> None:
    with start(system, proxy.url, "--filter", 'event is "Tailed"') as tail:
        send(system, key, "t1")
        send(system, key, "t2", event="Other")
        assert tail.next().endswith("message=t1")
        proxy.cut()
        tail.wait_for_note("the connection was lost")
        send(system, key, "t3")
        send(system, key, "t4")
        proxy.open()
        tail.wait_for_note("connected again")
        send(system, key, "t5")
        assert sorted(tail.next()[-10:] for _ in range(3)) == ["message=t3", "message=t4", "message=t5"]
        send(system, key, "t6")
        assert tail.next().endswith("message=t6")
        assert tail.interrupt() == 130
        assert tail.lines.empty()
        assert list(tail.notes.queue) == []


def test_a_number_of_events_as_json(system: RunningSystem, key: str) -> None:
    with start(system, system.base_url, "--count", "2", "--json", "--filter", 'event is "Counted"') as tail:
        for message in ("n1", "n2", "n3"):
            send(system, key, message, event="Counted")
        assert [json.loads(tail.next())["messageId"] for _ in range(2)] == ["n1", "n2"]
        assert tail.process.wait(10) == 0


def test_an_error_of_the_first_call_ends_it(shell: Shell, system: RunningSystem) -> None:
    shell.connect(system)
    result = shell.run("events", "tail", "--connection", "7")
    assert result.status == 1
    assert result.errors.startswith("headwater: ")
    assert result.errors.count("\n") == 1


@pytest.mark.parametrize("status", [429, 503])
def test_missed_events_that_cannot_be_read_for_a_while_are_read_after_the_next_connection(status: int) -> None:
    api = Api(Client("http://127.0.0.1:1", None), is_json=True)
    tail = _Tail(api, argparse.Namespace(connection=None, filter=None, deliveries=False, count=None))
    client, response = Mock(), Mock()
    client.items.side_effect = ApiError(status, "Unavailable", "not yet")
    response.message.readline.return_value = b""
    tail._client = client
    assert tail._follow(response, [0.0]) == Lost("Unavailable: not yet")
    client.items.side_effect = ApiError(401, "Unauthorized", "revoked")
    with pytest.raises(ApiError):
        tail._follow(response, [0.0])


def test_a_stream_of_events_is_parsed() -> None:
    lines = [
        b":\n", b"\n", b"event: event\n", b'data: {"a":1}\n', b"\n", b"id: 7\r\n", b"event:omitted\r\n", b"data: x\r\n",
        b"data:y\r\n", b"\r\n", b"event: event\n", b"data: cut",
    ]  # fmt: skip
    assert list(parse_stream(iter(lines))) == [Sent("event", '{"a":1}'), Sent("omitted", "x\ny")]


def test_lines_for_people() -> None:
    event = {
        "receivedAt": "2026-11-30T09:44:03.5Z",
        "type": "track",
        "event": "a\x1bb",
        "userId": "ada",
        "messageId": "m",
    }
    assert format_event(event) == "09:44:03  track     a\N{REPLACEMENT CHARACTER}b  user=ada  message=m"
    assert format_event({"type": "page", "anonymousId": "x"}) == "-  page      anonymous=x"
    outcome = {"at": "2026-11-30T09:44:03.5Z", "outcome": "Failed", "status": 422, "destination": 7, "message": "no"}
    assert format_delivery(outcome) == "09:44:03  delivery  Failed  destination=7  status=422  no"
