"""Envoy, with the shipped configuration, in front of a backend whose responses a test sets."""

import asyncio
import json
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from google.api import annotations_pb2
from google.api.httpbody_pb2 import HttpBody
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from headwater.api.ingest import IngestRequest, IngestResponse
from headwater.api.ingest_http import HttpServer, Router
from headwater.api.services import track
from headwater.base.errors import TooManyRequests
from headwater.events import EVENT_TYPES
from headwater.rest.v1 import client_pb2, native_events_pb2, track_pb2, track_pb2_grpc
from headwater.server import gateway
from headwater.server.probe import request
from headwater.server.settings import Settings, read
from headwater.v1 import system_pb2, system_pb2_grpc
from tests.system import free_port, is_healthy

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Script:
    """The backend's behaviour for the next calls."""

    status: grpc.StatusCode | None = None
    text: str = "the text of an unhandled exception"
    initial: tuple[tuple[str, str], ...] = ()
    trailing: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0


class ScriptedSystem(system_pb2_grpc.SystemServiceServicer):
    def __init__(self) -> None:
        self.script = Script()
        self.metadata: dict[str, Any] = {}

    async def GetHealth(self, request: object, context: Any) -> system_pb2.GetHealthResponse:
        self.metadata = dict(context.invocation_metadata())
        await asyncio.sleep(self.script.delay_s)
        if self.script.status is not None:
            await context.abort(self.script.status, self.script.text, self.script.trailing)
        if self.script.initial:
            await context.send_initial_metadata(self.script.initial)
        return system_pb2.GetHealthResponse(status="ok")


class TrackResponses(track_pb2_grpc.TrackServiceServicer):
    """Serves intake calls with bodies of their protocol, and the settings that SDKs request."""

    def __init__(self) -> None:
        self.metadata: dict[str, Any] = {}
        self.begun = asyncio.Queue[bytes]()

    async def track(self, request: IngestRequest) -> IngestResponse:
        self.metadata = {**request.metadata, "query": request.query}
        match request.body:
            case b"refuse":
                raise TooManyRequests("later", retry_after=7)
            case b"wait":
                self.begun.put_nowait(request.body)
                await asyncio.Event().wait()
        return IngestResponse(request.body)

    async def GetProjectSettings(self, request: object, context: Any) -> HttpBody:
        self.metadata = dict(context.invocation_metadata())
        return HttpBody(content_type="application/json", data=b'{"settings":1}')


@dataclass
class RawBackend:
    """The backend's other socket, with the one server that listens there."""

    protocol: TrackResponses
    socket: Path
    server: HttpServer = field(init=False)

    async def start(self) -> None:
        router = Router()
        router.add(track.SERVICE, {"Track": self.protocol.track})
        self.server = HttpServer(router, max_body_bytes=8 << 20)
        await self.server.start(self.socket)

    async def stop(self) -> None:
        await self.server.stop(0)
        self.socket.unlink(missing_ok=True)


@dataclass
class Gateway:
    settings: Settings
    backend: ScriptedSystem
    raw: RawBackend
    http: httpx.AsyncClient


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    folder = tmp_path_factory.mktemp("gateway")
    settings = read({"HEADWATER_DATA_DIR": str(folder), "HEADWATER_PORT": str(free_port())})
    settings.run_dir.mkdir()
    backend = ScriptedSystem()
    server = grpc.aio.server()
    system_pb2_grpc.add_SystemServiceServicer_to_server(backend, server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    raw = RawBackend(TrackResponses(), settings.ingest_socket("backend"))
    track_pb2_grpc.add_TrackServiceServicer_to_server(raw.protocol, server)
    server.add_insecure_port(f"unix:{settings.backend_socket('backend')}")
    await server.start()
    await raw.start()
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    envoy = await asyncio.create_subprocess_exec(*gateway.program(settings).command)
    try:
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(is_healthy, settings.base_url) or not await _all_healthy(settings):
                await asyncio.sleep(0.02)
        async with httpx.AsyncClient(base_url=settings.base_url) as http:
            yield Gateway(settings, backend, raw, http)
    finally:
        envoy.terminate()
        await envoy.wait()
        await server.stop(None)
        await raw.stop()


async def _all_healthy(settings: Settings) -> bool:
    return await gateway.healthy_backends(settings) == 1


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def _fresh_script(running: Gateway) -> None:
    """Start with the default script, and with a backend that is healthy for Envoy.

    A test that computes for seconds does not respond to health checks meanwhile.
    """
    running.backend.script = Script()
    async with asyncio.timeout(30):
        while not await _all_healthy(running.settings):
            await asyncio.sleep(0.02)


def _asked_for(status: int, body: object) -> tuple[tuple[str, str], ...]:
    return (("x-http-code", str(status)), ("x-http-body", json.dumps(body)))


async def _get(running: Gateway, script: Script) -> httpx.Response:
    running.backend.script = script
    response = await running.http.get("/healthz")
    for leaked in ("x-http-code", "x-http-body", "grpc-status", "grpc-message", "x-envoy-upstream-service-time"):
        assert leaked not in response.headers
    return response


@pytest.mark.parametrize(
    "variables",
    [
        {"HEADWATER_LOG_LEVEL": "debug", "HEADWATER_LOG_FORMAT": "text"},
        {"HEADWATER_TRUSTED_PROXIES": "2", "HEADWATER_ACCESS_LOG_SAMPLE": "0"},
        {"HEADWATER_TRUSTED_PROXIES": "10.0.0.0/8,2001:db8::/32", "HEADWATER_ACCESS_LOG_SAMPLE": "1"},
    ],
)
async def test_envoy_accepts_the_configuration(tmp_path: Path, variables: dict[str, str]) -> None:
    settings = read({"HEADWATER_DATA_DIR": str(tmp_path), "HEADWATER_HOST": "::1", **variables})
    settings.run_dir.mkdir()
    command = [*gateway.program(settings).command, "--mode", "validate"]
    validated = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert validated.returncode == 0, validated.stderr
    warnings = [line for line in validated.stderr.splitlines() if "warning" in line]
    assert [line for line in warnings if "connect_grpc_bridge" not in line] == []  # nothing deprecated


async def test_every_service_of_the_protos_is_transcoded() -> None:
    rendered = gateway.render(read({}))
    descriptors = descriptor_pb2.FileDescriptorSet.FromString(
        (gateway.configuration_dir() / "descriptors.pb").read_bytes()
    )
    services = [f"{file.package}.{service.name}" for file in descriptors.file for service in file.service]
    assert services
    assert f"services: {json.dumps(services)}" in rendered


PROTOCOLS = [
    (track_pb2, "TrackService", gateway.TRACK_PATHS),
    (native_events_pb2, "NativeEventService", gateway.NATIVE_PATHS),
    (client_pb2, "ClientService", gateway.CLIENT_PATHS),
]


def _paths(protos: Any, service: str, verb: str) -> set[str]:
    """Return the verbs and paths of a service; the type of an event is replaced by its values."""
    found = set()
    for method in protos.DESCRIPTOR.services_by_name[service].methods:
        rule = method.GetOptions().Extensions[annotations_pb2.http]
        found |= {getattr(binding, verb) for binding in (rule, *rule.additional_bindings)} - {""}
    return {path.replace("{type}", type_) for path in found for type_ in (EVENT_TYPES if "{type}" in path else ("",))}


@pytest.mark.parametrize(("protos", "service", "pattern"), PROTOCOLS, ids=[service for _, service, _ in PROTOCOLS])
async def test_what_is_passed_on_as_it_is_are_the_posts_of_the_protos(protos: Any, service: str, pattern: str) -> None:
    paths = _paths(protos, service, "post")
    assert paths
    assert {path for path in paths if not re.fullmatch(pattern, path)} == set()
    others = {path for other, name, _ in PROTOCOLS for path in _paths(other, name, "post") if name != service}
    assert {path for path in others if re.fullmatch(pattern, path)} == set()

    @given(st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True))
    def nothing_else_matches(path: str) -> None:
        assert path in paths

    nothing_else_matches()


async def test_what_sdks_ask_for_are_the_gets_of_the_protos() -> None:
    paths = {path for protos, service, _ in PROTOCOLS for path in _paths(protos, service, "get")}
    assert paths
    for path in paths:
        key = path.replace("{write_key}", "k%2F1")
        assert re.fullmatch(gateway.SETTINGS_PATHS, key), path
        assert not any(re.fullmatch(pattern, key) for *_, pattern in PROTOCOLS)


async def test_rest_is_transcoded(running: Gateway) -> None:
    response = await _get(running, Script())
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["server"] == "headwater"
    assert response.headers["x-request-id"] == running.backend.metadata["x-request-id"]


@pytest.mark.parametrize(
    ("status", "grpc_status"),
    [
        (400, grpc.StatusCode.INVALID_ARGUMENT),
        (401, grpc.StatusCode.UNAUTHENTICATED),
        (403, grpc.StatusCode.PERMISSION_DENIED),
        (404, grpc.StatusCode.NOT_FOUND),
        (409, grpc.StatusCode.ABORTED),
        (413, grpc.StatusCode.INVALID_ARGUMENT),
        (422, grpc.StatusCode.FAILED_PRECONDITION),
        (429, grpc.StatusCode.RESOURCE_EXHAUSTED),
        (500, grpc.StatusCode.INTERNAL),
        (501, grpc.StatusCode.UNIMPLEMENTED),
        (503, grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_the_backend_chooses_status_and_body(running: Gateway, status: int, grpc_status: grpc.StatusCode) -> None:
    body = {"error": {"code": "SomeCode", "message": "naïve “text” %41 with spaces"}}
    trailing = (*_asked_for(status, body), ("retry-after", "7"))
    response = await _get(running, Script(status=grpc_status, trailing=trailing))
    assert (response.status_code, response.json()) == (status, body)
    assert response.headers["content-type"] == "application/json"
    assert response.headers["retry-after"] == "7"
    assert response.headers["cache-control"] == "no-store"
    assert "x-request-id" in response.headers


async def test_a_large_error_body_arrives_whole_and_may_be_compressed(running: Gateway) -> None:
    body = {"error": {"code": "SomeCode", "message": "m" * 15_000}}
    response = await _get(running, Script(status=grpc.StatusCode.NOT_FOUND, trailing=_asked_for(404, body)))
    assert (response.status_code, response.json()) == (404, body)


async def test_a_success_may_have_another_status(running: Gateway) -> None:
    response = await _get(running, Script(initial=(("x-http-code", "201"),)))
    assert (response.status_code, response.json()) == (201, {"status": "ok"})


async def test_204_has_no_body_and_keeps_the_connection(running: Gateway) -> None:
    for _ in range(3):
        response = await _get(running, Script(initial=(("x-http-code", "204"),)))
        assert (response.status_code, response.content) == (204, b"")
    assert (await _get(running, Script())).status_code == 200


@pytest.mark.parametrize(
    ("grpc_status", "status", "code"),
    [
        (grpc.StatusCode.UNKNOWN, 500, "InternalServerError"),
        (grpc.StatusCode.INTERNAL, 500, "InternalServerError"),
        (grpc.StatusCode.DATA_LOSS, 500, "InternalServerError"),
        (grpc.StatusCode.INVALID_ARGUMENT, 400, "BadRequest"),
        (grpc.StatusCode.UNAUTHENTICATED, 401, "Unauthorized"),
        (grpc.StatusCode.PERMISSION_DENIED, 403, "Forbidden"),
        (grpc.StatusCode.NOT_FOUND, 404, "NotFound"),
        (grpc.StatusCode.ABORTED, 409, "Conflict"),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "TooManyRequests"),
        (grpc.StatusCode.UNIMPLEMENTED, 501, "NotImplemented"),
        (grpc.StatusCode.UNAVAILABLE, 503, "ServiceUnavailable"),
        (grpc.StatusCode.DEADLINE_EXCEEDED, 504, "Timeout"),
    ],
)
async def test_an_error_that_no_interceptor_saw_keeps_its_text_to_itself(
    running: Gateway, grpc_status: grpc.StatusCode, status: int, code: str
) -> None:
    response = await _get(running, Script(status=grpc_status))
    assert response.status_code == status
    assert response.json()["error"]["code"] == code
    assert list(response.json()) == ["error"]
    assert "unhandled exception" not in response.text


async def test_native_grpc_keeps_its_own_status_and_trailers(running: Gateway) -> None:
    running.backend.script = Script(
        status=grpc.StatusCode.NOT_FOUND, text="there is none", trailing=(("x-other", "kept"),)
    )
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.settings.port}") as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await system_pb2_grpc.SystemServiceStub(channel).GetHealth(system_pb2.GetHealthRequest())
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "there is none"
    trailing = caught.value.trailing_metadata()
    assert trailing is not None
    assert ("x-other", "kept") in tuple(trailing)


async def test_a_native_caller_cannot_pass_for_a_transcoded_one(running: Gateway) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{running.settings.port}") as channel:
        await system_pb2_grpc.SystemServiceStub(channel).GetHealth(
            system_pb2.GetHealthRequest(),
            metadata=(("x-envoy-original-path", "/healthz"), ("x-envoy-external-address", "192.0.2.1")),
        )
    assert "x-envoy-original-path" not in running.backend.metadata
    assert running.backend.metadata["x-envoy-external-address"] == "127.0.0.1"


async def test_what_a_client_says_about_itself_is_replaced(running: Gateway) -> None:
    await running.http.get("/healthz", headers={"x-request-id": "mine", "x-envoy-external-address": "192.0.2.1"})
    assert running.backend.metadata["x-request-id"] != "mine"
    assert running.backend.metadata["x-envoy-external-address"] == "127.0.0.1"
    assert running.backend.metadata["x-envoy-original-path"] == "/healthz"


# --- raw calls ------------------------------------------------------------------------------------------------------


async def _post(running: Gateway, content: bytes, path: str = "/v1/track", **headers: str) -> httpx.Response:
    response = await running.http.post(path, content=content, headers=headers)
    assert [name for name in response.headers if name.startswith(("x-envoy", "x-http", "grpc"))] == []
    assert response.headers["server"] == "headwater"
    return response


@pytest.mark.parametrize(
    "type_", ["application/json", "text/plain", "", "application/grpc-web", "application/grpc-web-text+proto"]
)
async def test_a_raw_call_arrives_as_it_was_sent(running: Gateway, type_: str) -> None:
    content = b'{"b":1.0,"a":9007199254740993,\xff\0 '
    response = await _post(running, content, "/v1/track?verbose=true&x=%26", **{"content-type": type_, "x-a!b": "1"})
    assert (response.status_code, response.content) == (200, content)
    metadata = running.raw.protocol.metadata
    assert metadata["query"] == "verbose=true&x=%26"
    assert metadata["x-a!b"] == "1"
    assert response.headers["x-request-id"] == metadata["x-request-id"]


async def test_an_intake_call_is_rejected_with_the_body_of_its_protocol(running: Gateway) -> None:
    response = await _post(running, b"refuse")
    assert (response.status_code, response.headers["retry-after"]) == (429, "7")
    assert response.json() == {"error": {"code": "TooManyRequests", "message": "later"}}


async def test_what_the_client_of_a_raw_call_says_about_itself_is_replaced(running: Gateway) -> None:
    own = {
        "x-request-id": "mine",
        "x-envoy-original-path": "/v1/track?verbose=true",
        "x-envoy-external-address": "192.0.2.1",
        "x-http-code": "418",
        "x-http-body": "{}",
        "x-envoy-retry-on": "5xx",
        "x-envoy-upstream-rq-timeout-ms": "1",
    }
    assert (await _post(running, b"{}", **own)).status_code == 200
    metadata = running.raw.protocol.metadata
    assert metadata["x-request-id"] != "mine"
    assert "x-envoy-original-path" not in metadata
    assert metadata["query"] == ""
    assert metadata["x-envoy-external-address"] == "127.0.0.1"
    assert {"x-envoy-retry-on", "x-envoy-upstream-rq-timeout-ms"} & set(metadata) == set()


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
async def test_only_post_is_a_raw_call(running: Gateway, method: str) -> None:
    running.raw.protocol.metadata = {}
    response = await running.http.request(method, "/v1/track")
    assert response.status_code == 404
    assert method == "HEAD" or response.json()["error"]["code"] == "NotFound"
    assert running.raw.protocol.metadata == {}


async def test_what_sdks_ask_for_is_transcoded(running: Gateway) -> None:
    response = await running.http.get("/v1/projects/key/settings", headers={"x-headwater-authority": "mine"})
    assert (response.status_code, response.json()) == (200, {"settings": 1})
    assert running.raw.protocol.metadata["x-headwater-authority"] == f"127.0.0.1:{running.settings.port}"


async def _refused_at_once(running: Gateway) -> None:
    """The gateway returns 503 for an intake call; other calls succeed."""
    response = await _post(running, b"{}")
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json() == {"error": {"code": "ServiceUnavailable", "message": "the server cannot answer now"}}
    assert (await running.http.get("/v1/projects/key/settings")).status_code == 200


async def _until_back(running: Gateway) -> None:
    async with asyncio.timeout(10):
        while not await _all_healthy(running.settings):
            await asyncio.sleep(0.02)
    assert (await _post(running, b"{}")).status_code == 200


async def test_without_a_backend_a_raw_call_is_503_immediately_until_there_is_one(running: Gateway) -> None:
    await running.raw.stop()
    await _refused_at_once(running)  # the backend does not listen
    async with asyncio.timeout(10):
        while await _all_healthy(running.settings):
            await asyncio.sleep(0.02)
    await _refused_at_once(running)  # no backend receives it
    await running.raw.start()
    await _until_back(running)


async def test_a_call_whose_backend_dies_is_503_and_not_made_again(running: Gateway) -> None:
    call = asyncio.create_task(_post(running, b"wait"))
    await asyncio.wait_for(running.raw.protocol.begun.get(), 5)
    await running.raw.stop()
    await running.raw.start()
    response = await call
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["error"]["code"] == "ServiceUnavailable"
    await _until_back(running)
    assert running.raw.protocol.begun.empty()


async def test_a_backend_that_hangs_is_asked_no_more_until_it_answers(running: Gateway) -> None:
    await running.raw.stop()
    ended = asyncio.Event()

    async def hang(_reader: object, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    hanging = await asyncio.start_unix_server(hang, str(running.raw.socket))
    in_hand = asyncio.create_task(running.http.post("/v1/track", content=b"{}", timeout=25))
    async with asyncio.timeout(20):
        while await _all_healthy(running.settings):
            await asyncio.sleep(0.02)
    await _refused_at_once(running)
    # It may have been processed: only the client can know whether to send it again.
    assert ((await in_hand).status_code, (await in_hand).json()["error"]["code"]) == (504, "Timeout")
    ended.set()
    hanging.close()
    running.raw.socket.unlink(missing_ok=True)
    await running.raw.start()
    await _until_back(running)


@pytest.mark.parametrize("query", [b"a=\xc3\xa9", b"a=\xe9"])
async def test_letters_that_only_http2_has_in_a_query_are_400(running: Gateway, query: bytes) -> None:
    """Not 503, for which SDKs would send the call again and again; and others' calls have nothing to do with it."""
    async with httpx.AsyncClient(base_url=running.settings.base_url, http1=False, http2=True) as http:
        calls = [
            http.post("/v1/track", content=b"{}", extensions={"target": b"/v1/track?" + target})
            for target in (query, b"a=b", query, b"a=b")
        ]
        assert [response.status_code for response in await asyncio.gather(*calls)] == [400, 200, 400, 200]


async def test_draining_waits_for_the_request_that_has_arrived(running: Gateway, tmp_path: Path) -> None:
    settings = replace(running.settings, run_dir=tmp_path, port=free_port())
    settings.backend_socket("backend").symlink_to(running.settings.backend_socket("backend"))
    settings.ingest_socket("backend").symlink_to(running.settings.ingest_socket("backend"))
    envoy = await asyncio.create_subprocess_exec(*gateway.program(settings).command)
    try:
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(is_healthy, settings.base_url):
                await asyncio.sleep(0.02)
        running.backend.script = Script(delay_s=0.5)
        async with httpx.AsyncClient(base_url=settings.base_url) as http, asyncio.timeout(10):
            begun = asyncio.create_task(http.get("/healthz"))
            while not await gateway.active_requests(settings):
                await asyncio.sleep(0.01)
            await gateway.drain(settings)
            assert (await begun).status_code == 200
        with pytest.raises(OSError):
            await request("GET", "/healthz", (settings.host, settings.port))
    finally:
        envoy.terminate()
        await envoy.wait()


@asynccontextmanager
async def another(
    running: Gateway, folder: Path, **variables: str
) -> AsyncIterator[tuple[Settings, asyncio.subprocess.Process]]:
    """One more Envoy in front of the same backend, with other settings; its log goes to stderr.txt in the folder."""
    named = {f"HEADWATER_{name}": value for name, value in variables.items()}
    settings = read({"HEADWATER_DATA_DIR": str(folder), "HEADWATER_PORT": str(free_port()), **named})
    settings.run_dir.mkdir()
    settings.backend_socket("backend").symlink_to(running.settings.backend_socket("backend"))
    settings.ingest_socket("backend").symlink_to(running.settings.ingest_socket("backend"))
    with (folder / "stderr.txt").open("wb") as errors:
        envoy = await asyncio.create_subprocess_exec(*gateway.program(settings).command, stderr=errors)
    try:
        async with asyncio.timeout(10):
            while not await _all_healthy_within(settings):
                await asyncio.sleep(0.02)
        yield settings, envoy
    finally:
        if envoy.returncode is None:
            envoy.terminate()
        await envoy.wait()


async def _all_healthy_within(settings: Settings) -> bool:
    try:
        return await _all_healthy(settings)
    except OSError:
        return False


# --- how many connections -------------------------------------------------------------------------------------------


async def _is_served(settings: Settings) -> bool:
    """Return whether a client on its own connection gets a response."""
    try:
        return (await request("GET", "/healthz", (settings.host, settings.port)))[0] == 200
    except (OSError, ValueError, IndexError):
        return False


async def _idle(settings: Settings, count: int) -> list[asyncio.StreamWriter]:
    """Connections on which nothing is sent."""
    return [(await asyncio.open_connection(settings.host, settings.port))[1] for _ in range(count)]


async def _served_within(settings: Settings, seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not await _is_served(settings):
            await asyncio.sleep(0.05)


async def test_idle_connections_lock_nobody_out_for_longer_than_the_idle_time(running: Gateway, tmp_path: Path) -> None:
    async with another(running, tmp_path, MAX_CLIENT_CONNECTIONS="20", IDLE_TIMEOUT="2s") as (settings, _):
        taken = await _idle(settings, 30)
        assert not await _is_served(settings)
        await _served_within(settings, 8)
        for connection in taken:
            connection.close()


async def test_near_the_limit_idle_connections_are_closed_early(running: Gateway, tmp_path: Path) -> None:
    async with another(running, tmp_path, MAX_CLIENT_CONNECTIONS="20", IDLE_TIMEOUT="1h") as (settings, _):
        taken = await _idle(settings, 30)
        assert not await _is_served(settings)
        following = asyncio.create_task(gateway.follow_connections(settings))
        await _served_within(settings, 15)
        following.cancel()
        for connection in taken:
            connection.close()


async def test_a_call_is_no_idle_connection(running: Gateway, tmp_path: Path) -> None:
    async with another(running, tmp_path, IDLE_TIMEOUT="1s") as (settings, _):
        running.backend.script = Script(delay_s=3)
        async with httpx.AsyncClient(base_url=settings.base_url, timeout=20) as http:
            assert (await http.get("/healthz")).status_code == 200


async def test_an_old_connection_is_closed_after_its_call(running: Gateway, tmp_path: Path) -> None:
    async with another(running, tmp_path, MAX_CONNECTION_DURATION="1s") as (settings, _):
        reader, writer = await asyncio.open_connection(settings.host, settings.port)
        for _ in range(100):
            writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n")
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert head.startswith(b"http/1.1 200")
            assert await reader.readexactly(int(re.findall(rb"content-length: (\d+)", head)[0])) == b'{"status":"ok"}'
            if b"connection: close" in head:
                break
            await asyncio.sleep(0.1)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


# --- whose word counts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "forwarded", "address"),
    [
        ("", None, "127.0.0.1"),
        ("", "192.0.2.1", "127.0.0.1"),
        ("0", "192.0.2.1", "127.0.0.1"),
        ("1", None, "127.0.0.1"),
        ("1", "192.0.2.1", "192.0.2.1"),
        ("1", "203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("2", "203.0.113.9, 192.0.2.1, 10.0.0.1", "192.0.2.1"),
        ("2", "192.0.2.1", "127.0.0.1"),
        ("10.0.0.0/8", "192.0.2.1", "127.0.0.1"),
        ("127.0.0.0/8", None, "127.0.0.1"),
        ("127.0.0.0/8", "192.0.2.1", "192.0.2.1"),
        ("127.0.0.0/8", "203.0.113.9, 192.0.2.1", "192.0.2.1"),
        ("127.0.0.0/8,10.0.0.0/8", "203.0.113.9, 192.0.2.1, 10.0.0.1", "192.0.2.1"),
        ("127.0.0.0/8,::1/128", "2001:db8::7", "2001:db8::7"),
        ("127.0.0.0/8", "nonsense", "127.0.0.1"),
    ],
)
async def test_whose_forwarded_addresses_count(
    running: Gateway, tmp_path: Path, trusted: str, forwarded: str | None, address: str
) -> None:
    own = {
        "x-envoy-external-address": "198.51.100.66",
        "x-envoy-original-path": "/v1/other",
        "x-request-id": "mine",
        "x-headwater-codec": "json",
    }
    headers = own if forwarded is None else {**own, "x-forwarded-for": forwarded}
    async with another(running, tmp_path, TRUSTED_PROXIES=trusted) as (settings, _):
        async with httpx.AsyncClient(base_url=settings.base_url) as http:
            await http.post("/v1/track", content=b"{}", headers=headers)
            await http.get("/healthz", headers=headers)
        async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.port}") as channel:
            transcoded = running.backend.metadata
            await system_pb2_grpc.SystemServiceStub(channel).GetHealth(
                system_pb2.GetHealthRequest(), metadata=tuple(headers.items())
            )
    raw, native = running.raw.protocol.metadata, running.backend.metadata
    assert [seen["x-envoy-external-address"] for seen in (raw, transcoded, native)] == [address] * 3
    assert transcoded["x-envoy-original-path"] == "/healthz"
    assert not any("x-envoy-original-path" in seen for seen in (raw, native))
    assert "mine" not in {seen["x-request-id"] for seen in (raw, transcoded, native)}
    assert not any("x-headwater-codec" in seen for seen in (raw, transcoded, native))


# --- the access log -------------------------------------------------------------------------------------------------


async def _logged(envoy: asyncio.subprocess.Process, folder: Path) -> list[dict[str, Any]]:
    """The lines of calls in the log, once Envoy has ended."""
    envoy.terminate()
    await envoy.wait()
    lines = (folder / "stderr.txt").read_text().splitlines()
    return [entry for line in lines if (entry := json.loads(line))["event"] == "access"]


async def test_each_call_may_have_a_line_in_the_access_log(running: Gateway, tmp_path: Path) -> None:
    async with another(running, tmp_path, ACCESS_LOG_SAMPLE="1") as (settings, envoy):
        async with httpx.AsyncClient(base_url=settings.base_url) as http:
            answers = [
                await http.get("/healthz"),
                await http.post("/v1/track?x=1", content=b"{}"),
                await http.post("/v1/track", content=b"refuse"),
                await http.get("/v1/projects/key/settings"),
                await http.get("/v1/nothing"),
                await http.options("/b", headers={"origin": "x", "access-control-request-method": "POST"}),
            ]
        entries = {entry["request_id"]: entry for entry in await _logged(envoy, tmp_path)}
    found = [entries.pop(answer.headers["x-request-id"]) for answer in answers]
    assert entries == {}
    assert [(entry["method"], entry.get("call"), entry["status"]) for entry in found] == [
        ("GET", "/headwater.v1.SystemService/GetHealth", 200),
        ("POST", "/v1/track", 200),
        ("POST", "/v1/track", 429),
        ("GET", "/headwater.rest.v1.TrackService/GetProjectSettings", 200),
        ("GET", None, 404),
        ("OPTIONS", "/b", 200),
    ]
    for entry, answer in zip(found, answers, strict=True):
        assert entry["response_bytes"] == len(answer.content)
        assert entry["duration_ms"] >= 0
        assert (entry["level"], entry["process"]) == ("info", "envoy")
        assert re.fullmatch(r"20\d\d-\d\d-\d\dT[\d:.]+Z", entry["timestamp"])
    assert (found[1]["request_bytes"], found[2]["request_bytes"]) == (2, 6)


async def test_the_access_log_has_errors_always_and_nothing_that_callers_chose(
    running: Gateway, tmp_path: Path
) -> None:
    secret = "ada@private.example"
    headers = {"authorization": f"Bearer {secret}", "user-agent": secret, "x-forwarded-for": "203.0.113.77"}
    async with another(running, tmp_path, ACCESS_LOG_SAMPLE="0") as (settings, envoy):
        async with httpx.AsyncClient(base_url=settings.base_url, headers=headers) as http:
            for path, content in (("/v1/track", b"{}"), (f"/v1/track?writeKey={secret}", b"refuse")):
                await http.post(path, content=content)
            for path in ("/healthz", f"/v1/users/{secret}", f"/v1/events/{secret}/trace", f"/v1/events?first={secret}"):
                await http.get(f"{path}?email={secret}")
            await http.request("TRACE", "/healthz")
        async with grpc.aio.insecure_channel(f"127.0.0.1:{settings.port}") as channel:
            stub = system_pb2_grpc.SystemServiceStub(channel)
            await stub.GetHealth(system_pb2.GetHealthRequest())
            running.backend.script = Script(status=grpc.StatusCode.NOT_FOUND)
            with pytest.raises(grpc.aio.AioRpcError):
                await stub.GetHealth(system_pb2.GetHealthRequest())
        entries = await _logged(envoy, tmp_path)
    assert [(entry.get("call"), entry["status"], entry.get("grpc_status")) for entry in entries] == [
        ("/v1/track", 429, None),
        (None, 404, None),
        ("/headwater.v1.EventService/TraceEvent", 501, None),
        ("/headwater.rest.v1.EventService/ListEvents", 400, None),
        (None, 404, None),
        ("/headwater.v1.SystemService/GetHealth", 200, "NotFound"),
    ]
    log = (tmp_path / "stderr.txt").read_text()
    assert [word for word in (secret, "203.0.113.77") if word in log] == []


async def test_requests_that_cannot_be_read_are_logged(running: Gateway, tmp_path: Path) -> None:
    async with another(running, tmp_path, ACCESS_LOG_SAMPLE="0") as (settings, envoy):
        for sent in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nhost: x\r\nx: " + bytes([97] * 40_000) + b"\r\n\r\n"):
            reader, writer = await asyncio.open_connection(settings.host, settings.port)
            writer.write(sent)
            assert await reader.read()
            writer.close()
        entries = await _logged(envoy, tmp_path)
    assert [(entry.get("call"), entry["status"]) for entry in entries] == [(None, 400), (None, 431)]


async def test_a_sample_of_the_intake_is_logged(running: Gateway, tmp_path: Path) -> None:
    async with another(running, tmp_path, ACCESS_LOG_SAMPLE="10") as (settings, envoy):
        async with httpx.AsyncClient(base_url=settings.base_url) as http:
            for _ in range(600):
                await http.post("/v1/track", content=b"{}")
        count = len(await _logged(envoy, tmp_path))
    assert 20 <= count <= 120  # 60 are expected; outside of these bounds in one run of many millions


async def test_the_access_log_is_text_where_logs_are(running: Gateway, tmp_path: Path) -> None:
    async with another(running, tmp_path, LOG_FORMAT="text") as (settings, envoy):
        async with httpx.AsyncClient(base_url=settings.base_url) as http:
            answer = await http.get("/v1/nothing")
        envoy.terminate()
        await envoy.wait()
    [line] = [line for line in (tmp_path / "stderr.txt").read_text().splitlines() if "access" in line]
    assert f"[info] access request_id={answer.headers['x-request-id']} method=GET status=404" in line


async def test_above_the_level_info_there_is_no_access_log(running: Gateway, tmp_path: Path) -> None:
    async with another(running, tmp_path, LOG_LEVEL="warning", ACCESS_LOG_SAMPLE="1") as (settings, envoy):
        async with httpx.AsyncClient(base_url=settings.base_url) as http:
            assert (await http.get("/v1/nothing")).status_code == 404
            assert (await http.get("/healthz")).status_code == 200
        assert await _logged(envoy, tmp_path) == []


async def test_draining_an_envoy_that_is_gone_returns(tmp_path: Path) -> None:
    await gateway.drain(replace(read({}), run_dir=tmp_path))


async def test_only_this_user_can_administrate_envoy(running: Gateway) -> None:
    assert running.settings.admin_socket.stat().st_mode & 0o777 == 0o600
