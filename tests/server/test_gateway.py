"""Envoy, with the configuration that is shipped, in front of a backend that answers what a test tells it to."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from headwater.server import gateway
from headwater.server.probe import request
from headwater.server.settings import Settings, read
from headwater.v1 import system_pb2, system_pb2_grpc
from tests.system import free_port, is_healthy

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Script:
    """What the backend does with the next calls."""

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


@dataclass
class Gateway:
    settings: Settings
    backend: ScriptedSystem
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
    server.add_insecure_port(f"unix:{settings.backend_socket('backend')}")
    await server.start()
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    envoy = await asyncio.create_subprocess_exec(*gateway.program(settings).command)
    try:
        async with asyncio.timeout(10):
            while not await asyncio.to_thread(is_healthy, settings.base_url):
                await asyncio.sleep(0.02)
        async with httpx.AsyncClient(base_url=settings.base_url) as http:
            yield Gateway(settings, backend, http)
    finally:
        envoy.terminate()
        await envoy.wait()
        await server.stop(None)


@pytest.fixture(autouse=True)
def _fresh_script(running: Gateway) -> None:
    running.backend.script = Script()


def _asked_for(status: int, body: object) -> tuple[tuple[str, str], ...]:
    return (("x-http-code", str(status)), ("x-http-body", json.dumps(body)))


async def _get(running: Gateway, script: Script) -> httpx.Response:
    running.backend.script = script
    response = await running.http.get("/healthz")
    for leaked in ("x-http-code", "x-http-body", "grpc-status", "grpc-message", "x-envoy-upstream-service-time"):
        assert leaked not in response.headers
    return response


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_envoy_accepts_the_configuration(tmp_path: Path, level: str) -> None:
    settings = read({"HEADWATER_DATA_DIR": str(tmp_path), "HEADWATER_HOST": "::1", "HEADWATER_LOG_LEVEL": level})
    settings.run_dir.mkdir()
    command = [*gateway.program(settings).command, "--mode", "validate"]
    validated = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True)
    assert validated.returncode == 0, validated.stderr
    assert '"warning"' not in validated.stderr  # nothing deprecated


async def test_every_service_of_the_protos_is_transcoded() -> None:
    rendered = gateway.render(read({}))
    descriptors = descriptor_pb2.FileDescriptorSet.FromString(
        (gateway.configuration_dir() / "descriptors.pb").read_bytes()
    )
    services = [f"{file.package}.{service.name}" for file in descriptors.file for service in file.service]
    assert services
    assert f"services: {json.dumps(services)}" in rendered


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


async def test_draining_waits_for_the_request_that_has_arrived(running: Gateway, tmp_path: Path) -> None:
    settings = replace(running.settings, run_dir=tmp_path, port=free_port())
    settings.backend_socket("backend").symlink_to(running.settings.backend_socket("backend"))
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


async def test_draining_an_envoy_that_is_gone_returns(tmp_path: Path) -> None:
    await gateway.drain(replace(read({}), run_dir=tmp_path))


async def test_only_this_user_can_administrate_envoy(running: Gateway) -> None:
    assert running.settings.admin_socket.stat().st_mode & 0o777 == 0o600
