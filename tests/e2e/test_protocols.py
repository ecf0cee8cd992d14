"""HTTP methods, versions and parameters, gRPC and the Connect protocol, through the real gateway and backend."""

import gzip
import json
import socket
import struct
from typing import Any

import grpc
import httpx
import pytest

from headwater.v1 import connections_pb2 as connections
from headwater.v1 import events_pb2 as events
from headwater.v1 import system_pb2
from tests.e2e.routes import ROUTES, Route
from tests.e2e.source import Source, get, make_source
from tests.system import HTTP, RunningSystem


def full_name(method: str) -> str:
    """Return the path of "Service/Method" of headwater.v1, or of headwater.rest.v1 with the prefix "rest."."""
    return (
        f"headwater.rest.v1.{method.removeprefix('rest.')}" if method.startswith("rest.") else f"headwater.v1.{method}"
    )


@pytest.fixture(scope="module")
def source(system: RunningSystem) -> Source:
    return make_source(system, connector="javascript", strategy="Conversion")


def exchange(system: RunningSystem, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request in bytes until the server closes; return the status, headers and body of the response."""
    with socket.create_connection(("127.0.0.1", system.port), timeout=30) as connection:
        connection.sendall(request)
        received = b""
        while part := connection.recv(65_536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split()[1]), dict(line.lower().split(": ", 1) for line in lines), body


# --- HTTP -----------------------------------------------------------------------------------------------------------

READING = [
    "/healthz",
    "/v1/openapi.json",
    "/v1/descriptors.binpb",
    "/v1/connections",
    "/v1/connections/7",
    "/v1/events?limit=1",
    "/v1/events?limit=0",
    "/v1/events?nosuch=1",
    "/v1/connectors",
    "/v1/nothing-here",
    "/v1/projects/key/settings",
    "/v1/events/settings/key",
]


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("has_key", [True, False])
def test_head_returns_the_headers_of_get(
    system: RunningSystem, source: Source, http2: bool, compressed: bool, has_key: bool
) -> None:
    headers = {"accept-encoding": "gzip" if compressed else "identity"} | (system.authorization if has_key else {})
    with httpx.Client(http1=not http2, http2=http2, timeout=30, base_url=system.base_url, headers=headers) as client:
        for path in [*READING, f"/v1/connections/{source.id}", f"/v1/events/settings/{source.write_key}"]:
            whole, head = client.get(path), client.head(path)
            assert (head.status_code, head.content) == (whole.status_code, b""), path
            changing = ("date", "x-request-id", "ratelimit-remaining", "ratelimit-reset")
            assert {n: v for n, v in head.headers.items() if n not in changing} == {
                n: v for n, v in whole.headers.items() if n not in changing
            }, path


def test_http_1_0_is_supported(system: RunningSystem, source: Source) -> None:
    status, headers, body = exchange(system, b"GET /healthz HTTP/1.0\r\n\r\n")
    assert (status, json.loads(body)) == (200, {"status": "ok"})
    assert "transfer-encoding" not in headers
    event = json.dumps({"userId": "u", "event": "E", "writeKey": source.write_key}).encode()
    request = b"POST /v1/track HTTP/1.0\r\nx-strict-mode: 1\r\ncontent-length: %d\r\n\r\n%s" % (len(event), event)
    assert exchange(system, request)[::2] == (200, b"{}")
    listed = b"GET /v1/connections HTTP/1.0\r\nauthorization: Bearer %s\r\n\r\n" % system.api_key.encode()
    status, headers, body = exchange(system, listed)  # it comes in chunks, which HTTP/1.0 does not have
    assert (status, "transfer-encoding" in headers) == (200, False)
    assert json.loads(body) == get(system, "/v1/connections")


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        (b"transfer-encoding: gzip", 501, "NotImplemented"),
        (b"connection: upgrade\r\nupgrade: websocket", 403, "Forbidden"),
    ],
)
def test_unsupported_features_of_http(system: RunningSystem, header: bytes, status: int, code: str) -> None:
    request = b"POST /v1/connections HTTP/1.1\r\nhost: x\r\nconnection: close\r\n%s\r\n\r\n" % header
    status_, headers, body = exchange(system, request)
    assert (status_, headers["content-type"]) == (status, "application/json")
    assert json.loads(body)["error"]["code"] == code


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/events?connections=303772534", "connections"),
        ("/v1/events?limit=1&LIMIT=2", "LIMIT"),
        ("/v1/events?limit.x=1", "limit.x"),
        ("/v1/events?limit=1&%C3%A9=", "\u00e9"),
        ("/v1/events?limit=1&x", "x"),
        ("/v1/events/m-1/trace?verbose=true", "verbose"),
        ("/v1/events/rejected?source=1", "source"),
        ("/v1/connections?first=1", "first"),
        ("/v1/connectors?limit=1", "limit"),
    ],
)
def test_an_unknown_query_parameter_is_400_with_its_name(system: RunningSystem, path: str, name: str) -> None:
    response = HTTP.get(system.base_url + path, headers=system.authorization)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error["code"] == "BadRequest"
    assert f"there is no query parameter '{name}'" in error["message"]


def test_an_unknown_query_parameter_prevents_changes(system: RunningSystem) -> None:
    body = {"name": "Unknown parameter", "role": "Source", "connector": "http"}
    url = f"{system.base_url}/v1/connections?dryRun=true"
    assert HTTP.post(url, json=body, headers=system.authorization).status_code == 400
    assert "Unknown parameter" not in [found["name"] for found in get(system, "/v1/connections")["connections"]]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "", {"name": "Renamed", "id": 7}),
        ("PUT", "", {"id": 0, "name": "Renamed"}),
        ("PUT", "?id=7", {"name": "Renamed"}),
        ("GET", "?id=7", None),
        ("GET", "/event-write-keys?id=7", None),
        ("DELETE", "?id=7", None),
    ],
)
def test_a_part_of_the_path_has_no_other_value(
    system: RunningSystem, source: Source, method: str, path: str, body: dict[str, Any] | None
) -> None:
    url = f"{system.base_url}/v1/connections/{source.id}{path}"
    response = HTTP.request(method, url, json=body, headers=system.authorization)
    message = "id is a part of the path, and must not have another value"
    assert response.status_code == 400, response.text
    assert response.json() == {"error": {"code": "BadRequest", "message": message, "field": "id"}}
    assert get(system, f"/v1/connections/{source.id}")["name"] != "Renamed"


def test_a_part_of_the_path_may_be_repeated(system: RunningSystem, source: Source) -> None:
    url = f"{system.base_url}/v1/connections/{source.id}"
    found = HTTP.get(url, headers=system.authorization).json()
    assert HTTP.put(url, json=found, headers=system.authorization).status_code == 200
    assert HTTP.get(f"{url}?id={source.id}", headers=system.authorization).json() == found


@pytest.mark.parametrize("path", ["/v1/events?limit=1&order=receivedAt&ascending=true", "/healthz?probe=1"])
def test_known_query_parameters_and_those_of_probes_are_accepted(system: RunningSystem, path: str) -> None:
    assert get(system, path)


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_the_intake_ignores_query_parameters(system: RunningSystem, source: Source, route: Route) -> None:
    url = f"{system.base_url}{route.path}?utm=1&x"
    response = HTTP.post(url, content=route.content(), headers=route.headers_for(source))
    assert response.status_code == route.accepted


def test_settings_are_returned_with_any_query(system: RunningSystem, source: Source) -> None:
    for path in (f"/v1/projects/{source.write_key}/settings", f"/v1/events/settings/{source.write_key}"):
        assert HTTP.get(f"{system.base_url}{path}?v=2").status_code == 200


@pytest.mark.parametrize("path", ["/v1/events/%ff/trace", "/v1/events/a%C3/trace", "/v1/events?order=%ff"])
def test_a_url_that_is_not_utf8_is_400(system: RunningSystem, path: str) -> None:
    response = HTTP.get(system.base_url + path, headers=system.authorization)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "BadRequest")


MARK = b"\xef\xbb\xbf"


@pytest.mark.parametrize("route", ROUTES, ids=str)
def test_a_byte_order_mark_and_several_gzip_members_are_read(
    system: RunningSystem, source: Source, route: Route
) -> None:
    content = MARK + route.content()
    headers = route.headers_for(source)
    response = HTTP.post(system.base_url + route.path, content=content, headers=headers)
    assert response.status_code == route.accepted, response.text
    compressed = gzip.compress(content[:7]) + bytes(5) + gzip.compress(content[7:]) + bytes(3)
    response = HTTP.post(
        system.base_url + route.path, content=compressed, headers=headers | {"content-encoding": "gzip"}
    )
    assert response.status_code == route.accepted, response.text


# --- gRPC -----------------------------------------------------------------------------------------------------------

CALLS = [
    "ConnectionService/GetConnection",
    "EventService/SendEvents",
    "rest.TrackService/Track",
    "SystemService/GetHealth",
]
UNDECODABLE = [b"\xff", b"\x0a\x05ab", b"\x0b" * 3, b"\x08"]


def raw(channel: grpc.Channel, method: str, kind: str = "unary_unary") -> Any:
    """Make a call that sends and receives bytes."""
    return getattr(channel, kind)(f"/{full_name(method)}")


@pytest.mark.parametrize("data", UNDECODABLE)
@pytest.mark.parametrize("method", CALLS)
def test_bytes_that_cannot_be_decoded_are_an_invalid_argument(
    system: RunningSystem, source: Source, method: str, data: bytes
) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{system.port}") as channel, pytest.raises(grpc.RpcError) as caught:
        raw(channel, method)(data, metadata=tuple(system.authorization.items()), timeout=20)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "is not a valid protobuf message headwater.v1." in error.details() or "HttpBody" in error.details()


@pytest.mark.parametrize("data", UNDECODABLE)
def test_a_stream_that_cannot_be_decoded_is_an_invalid_argument(
    system: RunningSystem, source: Source, data: bytes
) -> None:
    good = events.StreamEventsRequest(events=[events.Event(type="track", user_id="u", event="E")]).SerializeToString()
    metadata = (("authorization", f"Bearer {source.write_key}"),)
    with grpc.insecure_channel(f"127.0.0.1:{system.port}") as channel:
        stream = raw(channel, "EventService/StreamEvents", "stream_stream")(
            iter([good, data]), metadata=metadata, timeout=20
        )
        with pytest.raises(grpc.RpcError) as caught:
            list(stream)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


# --- Connect --------------------------------------------------------------------------------------------------------

Body = bytes | dict[str, Any]


def connect(system: RunningSystem, method: str, body: Body, http2: bool = False, **headers: str) -> httpx.Response:
    """Make a unary call of the Connect protocol: JSON for a dict, protobuf for bytes."""
    is_json = isinstance(body, dict)
    sent = {
        "content-type": "application/json" if is_json else "application/proto",
        "connect-protocol-version": "1",
        **system.authorization,
        **headers,
    }
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    with httpx.Client(http1=not http2, http2=http2, timeout=30) as client:
        return client.post(f"{system.base_url}/{full_name(method)}", content=content, headers=sent)


@pytest.mark.parametrize("http2", [False, True], ids=["HTTP/1.1", "HTTP/2"])
def test_connect_with_json_and_with_protobuf(system: RunningSystem, source: Source, http2: bool) -> None:
    method = "ConnectionService/GetConnection"
    response = connect(system, method, {"id": source.id, "aMemberOfTheFuture": [1]}, http2)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json"), response.text
    assert (response.json()["id"], response.json()["connectorType"]) == (source.id, "SDK")
    assert "grpc-status" not in response.headers

    request = connections.GetConnectionRequest(id=source.id).SerializeToString()
    response = connect(system, method, request, http2)
    assert (response.status_code, response.headers["content-type"]) == (200, "application/proto")
    assert connections.Connection.FromString(response.content).id == source.id

    assert connect(system, "SystemService/GetHealth", {}, http2).json() == {"status": "ok"}
    assert system_pb2.GetHealthResponse.FromString(
        connect(system, "SystemService/GetHealth", b"", http2).content
    ).status


def test_connect_accepts_events(system: RunningSystem) -> None:
    source = make_source(system)
    body = {"events": [{"type": "track", "userId": "u", "event": "E", "propertiesJson": '{"a":1}'}, {"type": "x"}]}
    response = connect(system, "EventService/SendEvents", body, authorization=f"Bearer {source.write_key}")
    assert response.status_code == 200, response.text
    assert (response.json()["accepted"], response.json()["rejected"][0]["index"]) == (1, 1)
    [event] = source.wait_for(1)
    assert event["properties"] == {"a": 1}


@pytest.mark.parametrize(
    ("method", "body", "status", "code"),
    [
        ("ConnectionService/GetConnection", {"id": 7}, 404, "not_found"),
        ("ConnectionService/GetConnection", b"\x08\x07", 404, "not_found"),
        ("ConnectionService/GetConnection", {"id": "seven"}, 400, "invalid_argument"),
        ("ConnectionService/GetConnection", b"\xff", 400, "invalid_argument"),
        ("ConnectionService/NoSuchCall", {}, 404, "unimplemented"),
        ("NoSuchService/Get", {}, 404, "unimplemented"),
    ],
)
def test_connect_returns_errors(system: RunningSystem, method: str, body: Body, status: int, code: str) -> None:
    response = connect(system, method, body)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    error = response.json()
    assert (error["code"], bool(error["message"])) == (code, True)
    if code != "unimplemented":
        assert error["details"][0]["type"] == "google.rpc.ErrorInfo"  # without a prefix, as the protocol has it


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"id":"\\ud800"}', b"[" * 100_000, b'{"id":1e999}'])
def test_json_that_connect_cannot_read_is_an_invalid_argument(system: RunningSystem, content: bytes) -> None:
    headers = {"content-type": "application/json", "connect-protocol-version": "1", **system.authorization}
    url = f"{system.base_url}/headwater.v1.ConnectionService/GetConnection"
    response = HTTP.post(url, content=content, headers=headers)
    assert (response.status_code, response.json()["code"]) == (400, "invalid_argument"), response.text


def connect_stream(
    system: RunningSystem, method: str, codec: str, *messages: bytes, key: str
) -> tuple[list[bytes], Any]:
    """Make a streaming call of the Connect protocol; return its messages and its end.

    Each message has five bytes before it: flags and length. The last one is JSON and states how the stream ended.
    """
    headers = {
        "content-type": f"application/connect+{codec}",
        "connect-protocol-version": "1",
        "authorization": f"Bearer {key}",
    }
    content = b"".join(struct.pack(">BI", 0, len(message)) + message for message in messages)
    response = HTTP.post(f"{system.base_url}/{full_name(method)}", content=content, headers=headers)
    assert (response.status_code, response.headers["content-type"]) == (200, f"application/connect+{codec}")
    entries, rest = [], response.content
    while rest:
        flags, length = struct.unpack(">BI", rest[:5])
        entries.append((flags, rest[5 : 5 + length]))
        rest = rest[5 + length :]
    *received, (flags, end) = entries
    assert [flags for flags, _ in received] == [0] * len(received)
    assert flags == 2
    return [message for _, message in received], json.loads(end)


@pytest.mark.parametrize(("codec", "request_"), [("proto", b""), ("json", b"{}")])
def test_connect_streams_what_a_server_streams(
    system: RunningSystem, source: Source, codec: str, request_: bytes
) -> None:
    method = "rest.ConnectionService/ListConnections"
    received, end = connect_stream(system, method, codec, request_, key=system.api_key)
    assert (bool(received), end) == (True, {})
    _, end = connect_stream(system, method, codec, request_, key="api_unknown")
    assert end["error"]["code"] == "unauthenticated"


def test_connect_streams_what_a_client_streams(system: RunningSystem) -> None:
    source = make_source(system)
    request = events.StreamEventsRequest(
        events=[events.Event(type="track", user_id="u", event="E")]
    ).SerializeToString()
    received, end = connect_stream(system, "EventService/StreamEvents", "proto", request, request, key=source.write_key)
    assert (events.StreamEventsResponse.FromString(received[-1]).accepted, end) == (2, {})
    received, end = connect_stream(system, "EventService/StreamEvents", "json", b"{}", key=source.write_key)
    assert (received, end["error"]["code"]) == ([], "invalid_argument")


def test_without_the_header_of_connect_the_path_of_an_rpc_is_no_route(system: RunningSystem) -> None:
    url = f"{system.base_url}/headwater.v1.SystemService/GetHealth"
    assert HTTP.post(url, json={}).status_code == 404
