"""The public port of the whole system: Envoy's own responses, allowed callers, and protocols."""

import struct

import grpc
import httpx
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2

from headwater.server.descriptors import service_names
from headwater.server.gateway import configuration_dir
from headwater.v1 import system_pb2, system_pb2_grpc
from tests.system import HTTP, RunningSystem

INTAKE = [
    *(f"/v1/{call}" for call in ("identify", "track", "page", "screen", "group", "alias", "batch")),
    *(f"/v1/{letter}" for letter in "itpsgab"),
    "/b",
    "/api/s/page",
    "/api/s/s2s/page",
    "/v1/events",
    "/v1/events/track",
    *(f"/api/client/{call}" for call in ("alias", "identify", "devices", "events", "track")),
    "/devices",
    "/events",
]
MANAGEMENT = ["/v1/connections", "/v1/pipelines", "/healthz", "/v1/events/rejected", "/v1/events/other", "/v1/tracks"]


def _error(response: httpx.Response) -> str:
    """The error's code, once the envelope is as documented."""
    assert response.headers["content-type"] == "application/json"
    assert "x-request-id" in response.headers or response.status_code == 431  # its headers were not read
    body = response.json()
    assert list(body) == ["error"]
    assert {"code", "message"} <= set(body["error"]) <= {"code", "message", "field"}
    assert body["error"]["message"]
    return str(body["error"]["code"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/v1/nothing-here"),
        ("POST", "/v2/track"),
        ("PATCH", "/v1/connections"),
        ("POST", "/healthz"),
        ("HEAD", "/v1/track"),
        ("GET", "/v1/track"),
        ("DELETE", "/v1/batch"),
        ("OPTIONS", "/v1/connections"),
        ("TRACE", "/v1/connections"),
    ],
)
def test_an_unknown_path_or_method_is_404(system: RunningSystem, method: str, path: str) -> None:
    response = HTTP.request(method, system.base_url + path)
    assert response.status_code == 404
    if method != "HEAD":
        assert _error(response) == "NotFound"
        assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("body", ["{", "nonsense", '{"name": }', '{"name": 5}', "[]", '"text"'])
def test_malformed_json_for_a_typed_call_is_400(system: RunningSystem, body: str) -> None:
    response = HTTP.post(f"{system.base_url}/v1/connections", content=body, headers=system.authorization)
    assert response.status_code == 400
    assert _error(response) == "BadRequest"


def test_a_management_body_may_have_1_mib(system: RunningSystem) -> None:
    response = HTTP.post(f"{system.base_url}/v1/connections", content=b" " * (1 << 20) + b"{}")
    assert response.status_code == 413
    assert _error(response) == "PayloadTooLarge"


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/t", "/v1/track?x=1"])
def test_an_intake_body_may_have_4_mib_and_beyond_sdks_get_their_own_shape(system: RunningSystem, path: str) -> None:
    url = system.base_url + path
    assert HTTP.post(url, content=b" " * (4 << 20)).status_code != 413
    response = HTTP.post(url, content=b" " * (4 << 20) + b"{}")
    assert response.status_code == 413
    body = response.json()
    assert body["code"] == "PayloadTooLarge"
    assert body["meta"]["errors"] == [body["message"]]
    assert body["success"] is False


def test_too_many_headers_are_431(system: RunningSystem) -> None:
    response = HTTP.get(f"{system.base_url}/healthz", headers={"x-large": "x" * 40_000})
    assert response.status_code == 431
    assert _error(response) == "HeadersTooLarge"


def test_two_lengths_in_one_request_are_rejected(system: RunningSystem) -> None:
    response = HTTP.post(
        f"{system.base_url}/v1/track",
        content=iter([b"{}"]),
        headers={"content-length": "2", "transfer-encoding": "chunked"},
    )
    assert response.status_code == 400


SETTINGS = ["/v1/events/settings/key", "/v1/projects/key/settings", "/projects/key/settings"]


@pytest.mark.parametrize("path", INTAKE + SETTINGS)
@pytest.mark.parametrize("asked", ["authorization,content-type", "x-an-sdk-we-have-not-met, X-Other", None])
def test_any_origin_may_call_with_any_headers_without_credentials(
    system: RunningSystem, path: str, asked: str | None
) -> None:
    method = "GET" if path in SETTINGS else "POST"
    headers = {"origin": "https://shop.example", "access-control-request-method": method}
    if asked is not None:
        headers["access-control-request-headers"] = asked
    preflight = HTTP.options(system.base_url + path, headers=headers)
    assert (preflight.status_code, preflight.content) == (200, b"")
    assert preflight.headers["access-control-allow-origin"] == "*"
    assert preflight.headers["access-control-allow-methods"] == f"{method}, OPTIONS"
    assert preflight.headers.get("access-control-allow-headers") == asked
    assert "access-control-request-headers" in preflight.headers["vary"]
    assert "access-control-allow-credentials" not in preflight.headers

    call = HTTP.request(method, system.base_url + path, content=b"{}", headers={"origin": "https://shop.example"})
    assert call.headers["access-control-allow-origin"] == "*"  # which a cache may give to every origin
    assert "access-control-allow-credentials" not in call.headers


@pytest.mark.parametrize("path", INTAKE)
def test_what_the_gateway_rejects_can_be_read_by_any_origin(system: RunningSystem, path: str) -> None:
    response = HTTP.post(system.base_url + path, content=bytes(5_000_000), headers={"origin": "https://shop.example"})
    assert (response.status_code, response.headers["access-control-allow-origin"]) == (413, "*")


@pytest.mark.parametrize("path", MANAGEMENT)
@pytest.mark.parametrize("method", ["OPTIONS", "GET", "POST"])
def test_no_origin_is_allowed_anywhere_else(system: RunningSystem, path: str, method: str) -> None:
    headers = {"origin": "https://shop.example", "access-control-request-method": method}
    response = HTTP.request(method, system.base_url + path, headers=headers)
    assert not [name for name in response.headers if name.startswith("access-control-")]


def test_reading_events_is_management_although_it_shares_a_path_with_intake(system: RunningSystem) -> None:
    response = HTTP.get(f"{system.base_url}/v1/events", headers={"origin": "https://shop.example"})
    assert "access-control-allow-origin" not in response.headers
    assert response.headers["cache-control"] == "no-store"


def test_native_grpc(system: RunningSystem) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{system.port}") as channel:
        answer = system_pb2_grpc.SystemServiceStub(channel).GetHealth(system_pb2.GetHealthRequest(), timeout=30)
    assert answer.status == "ok"


def test_an_unknown_native_call_is_unimplemented(system: RunningSystem) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{system.port}") as channel:
        call = channel.unary_unary(
            "/headwater.v1.NoService/NoCall", request_serializer=bytes, response_deserializer=bytes
        )
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=30)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("content_type", ["application/grpc-web+proto", "application/grpc-web"])
def test_grpc_web(system: RunningSystem, content_type: str) -> None:
    response = HTTP.post(
        f"{system.base_url}/headwater.v1.SystemService/GetHealth",
        content=struct.pack(">BI", 0, 0),
        headers={"content-type": content_type, "x-grpc-web": "1"},
    )
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("application/grpc-web")
    flags, length = struct.unpack(">BI", response.content[:5])
    assert flags == 0
    assert system_pb2.GetHealthResponse.FromString(response.content[5 : 5 + length]).status == "ok"
    assert b"grpc-status:0" in response.content[5 + length :]


@pytest.mark.parametrize("service", ["", "headwater.v1.SystemService"])
def test_the_standard_health_service(system: RunningSystem, service: str) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{system.port}") as channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service), timeout=30)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_and_describes_every_service(system: RunningSystem, version: str) -> None:
    ours = service_names((configuration_dir() / "descriptors.pb").read_bytes())
    reflections = {f"grpc.reflection.{name}.ServerReflection" for name in ("v1", "v1alpha")}
    services = {*ours, "grpc.health.v1.Health", *reflections}
    with grpc.insecure_channel(f"127.0.0.1:{system.port}") as channel:
        ask = channel.stream_stream(
            f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        questions = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            *(reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in sorted(services)),
        ]
        listing, *answers = ask(iter(questions), timeout=30)
    assert {service.name for service in listing.list_services_response.service} == services
    described = {
        f"{file.package}.{service.name}"
        for answer in answers
        for text in answer.file_descriptor_response.file_descriptor_proto
        for file in [descriptor_pb2.FileDescriptorProto.FromString(text)]
        for service in file.service
    }
    assert described == services


def test_the_descriptor_set_of_the_api_contains_its_imports(system: RunningSystem) -> None:
    response = HTTP.get(f"{system.base_url}/v1/descriptors.binpb")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/octet-stream")
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(response.content).file:
        pool.AddSerializedFile(file.SerializeToString())  # fails for a file before its imports
    assert pool.FindServiceByName("headwater.v1.EventService").methods_by_name["StreamEvents"].server_streaming
    assert "reason" in pool.FindMessageTypeByName("google.rpc.ErrorInfo").fields_by_name
