"""A stream of events that ends in the middle of a request: what was acknowledged is stored, and nothing of the rest."""

import socket
import uuid
from contextlib import closing

import h2.config
import h2.connection
import h2.events
import pytest

from headwater.v1.events_pb2 import Event, StreamEventsRequest, StreamEventsResponse
from tests.e2e.source import Source, make_source
from tests.system import RunningSystem, wait_until

PATH = "/headwater.v1.EventService/StreamEvents"
SECONDS = 20


@pytest.fixture(scope="module")
def source(system: RunningSystem) -> Source:
    return make_source(system)


class Stream:
    """A stream whose bytes a test writes itself."""

    def __init__(self, source: Source) -> None:
        self.socket = socket.create_connection(("127.0.0.1", source.system.port), timeout=SECONDS)
        self._connection = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._connection.initiate_connection()
        headers = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "localhost"),
            (":path", PATH),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            ("authorization", f"Bearer {source.write_key}"),
        ]
        self._connection.send_headers(1, headers)

    def send(self, data: bytes, *, is_last: bool = False) -> None:
        self._connection.send_data(1, data, end_stream=is_last)
        self._flush()

    def reset(self) -> None:
        self._connection.reset_stream(1)
        self._flush()

    def read(self) -> tuple[bytes, dict[str, str]]:
        """Return the bytes of the next response, and the trailers if the stream has ended."""
        while True:
            received = self.socket.recv(65_536)
            assert received, "the server closed the connection"
            for event in self._connection.receive_data(received):
                if isinstance(event, h2.events.DataReceived):
                    return event.data, {}
                if isinstance(event, h2.events.TrailersReceived | h2.events.ResponseReceived) and event.headers:
                    found = {_text(name): _text(value) for name, value in event.headers}
                    if "grpc-status" in found:
                        return b"", found
            self._flush()

    def _flush(self) -> None:
        self.socket.sendall(self._connection.data_to_send())


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode()


def frame(request: StreamEventsRequest) -> bytes:
    body = request.SerializeToString()
    return b"\0" + len(body).to_bytes(4, "big") + body


def request(message_id: str) -> StreamEventsRequest:
    return StreamEventsRequest(events=[Event(type="track", event="E", user_id="u", message_id=message_id)])


@pytest.mark.parametrize("ending", ["closed", "reset", "finished"])
def test_half_a_request_at_the_end_of_a_stream_is_nothing(source: Source, ending: str) -> None:
    whole, half = str(uuid.uuid4()), str(uuid.uuid4())
    stream = Stream(source)
    with closing(stream.socket):
        stream.send(frame(request(whole)))
        body, _ = stream.read()
        assert StreamEventsResponse.FromString(body[5:]).requests == 1
        part = frame(request(half))[:-7]
        if ending == "finished":
            stream.send(part, is_last=True)
            body, trailers = stream.read()  # gRPC drops the half request, and no response acknowledges it
            assert (body, trailers["grpc-status"]) == (b"", "0")
        else:
            stream.send(part)
            if ending == "reset":
                stream.reset()
    following = str(uuid.uuid4())
    assert source.send("track", {"userId": "u", "event": "E", "messageId": following}).status_code == 200
    wait_until(lambda: following in stored(source), 30)
    assert stored(source).count(whole) == 1
    assert half not in stored(source)


def stored(source: Source) -> list[str]:
    return [each["messageId"] for each in source.events()]
