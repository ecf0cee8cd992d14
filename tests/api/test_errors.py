"""Every exception becomes a response, and no bug shows its text."""

from collections.abc import AsyncIterator

import pytest
from google.api.httpbody_pb2 import HttpBody
from grpc import aio
from structlog.testing import capture_logs

from headwater.api import ErrorInterceptor
from headwater.base import errors
from headwater.rest.v1 import connections_pb2 as rest_pb
from headwater.rest.v1 import connections_pb2_grpc as rest_grpc
from headwater.v1 import connections_pb2, system_pb2, system_pb2_grpc
from tests.api.conftest import REST, Api, CallError
from tests.harness import Harness

SECRET = "password=hunter2"

RAISED: list[tuple[Exception, str, int, str, dict[str, str]]] = [
    (errors.BadRequest("name is empty", field="name"), "INVALID_ARGUMENT", 400, "BadRequest", {"field": "name"}),
    (errors.BadRequest("no"), "INVALID_ARGUMENT", 400, "BadRequest", {}),
    (errors.Unauthorized("no"), "UNAUTHENTICATED", 401, "Unauthorized", {}),
    (errors.Forbidden("no"), "PERMISSION_DENIED", 403, "Forbidden", {}),
    (errors.NotFound("connection 5 does not exist"), "NOT_FOUND", 404, "NotFound", {}),
    (errors.PayloadTooLarge("no"), "INVALID_ARGUMENT", 413, "PayloadTooLarge", {}),
    (
        errors.Unprocessable("TargetExist", "ü", field="target"),
        "FAILED_PRECONDITION",
        422,
        "TargetExist",
        {"field": "target"},
    ),
    (errors.TooManyRequests("no", retry_after=7), "RESOURCE_EXHAUSTED", 429, "TooManyRequests", {"retryAfter": "7"}),
    (errors.Unimplemented("no"), "UNIMPLEMENTED", 501, "NotImplemented", {}),
    (errors.Unavailable("no"), "UNAVAILABLE", 503, "ServiceUnavailable", {"retryAfter": "1"}),
    (NotImplementedError(SECRET), "INTERNAL", 500, "InternalServerError", {}),
    (RuntimeError(SECRET), "INTERNAL", 500, "InternalServerError", {}),
    (ExceptionGroup(SECRET, [ValueError(SECRET)]), "INTERNAL", 500, "InternalServerError", {}),
    (UnicodeDecodeError("utf-8", SECRET.encode(), 0, 1, SECRET), "INTERNAL", 500, "InternalServerError", {}),
]


class Raising(system_pb2_grpc.SystemServiceServicer):
    error: Exception = RuntimeError()

    async def GetHealth(self, request: system_pb2.GetHealthRequest, context: object) -> system_pb2.GetHealthResponse:
        raise self.error


async def call_both(harness: Harness, error: Exception) -> tuple[CallError, CallError]:
    """Return the errors that a native caller and a REST caller receive."""
    servicer = Raising()
    servicer.error = error
    server = aio.server(interceptors=[ErrorInterceptor()])
    system_pb2_grpc.add_SystemServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{harness.folder}/raising.sock")
    await server.start()
    async with aio.insecure_channel(f"unix:{harness.folder}/raising.sock") as channel:
        api = Api(harness, channel)
        request = system_pb2.GetHealthRequest()
        native = await api.call("SystemService/GetHealth", request)
        rest = await api.call("SystemService/GetHealth", request, REST)
    await server.stop(None)
    return native, rest


@pytest.mark.parametrize(("error", "status", "code", "reason", "metadata"), RAISED, ids=lambda value: repr(value)[:40])
async def test_the_response_to_each_error(
    harness: Harness, error: Exception, status: str, code: int, reason: str, metadata: dict[str, str]
) -> None:
    with capture_logs() as logs:
        native, rest = await call_both(harness, error)
    retry = ("retry-after",) if "retryAfter" in metadata else ()
    assert (native.status, native.reason, dict(native.metadata)) == (status, reason, metadata)
    assert (native.http, native.trailers) == (None, ("grpc-status-details-bin", *retry)), (
        "native callers see nothing of HTTP"
    )
    message = native.message
    field = {"field": metadata["field"]} if "field" in metadata else {}
    assert rest.http == (code, {"error": {"code": reason, "message": message, **field}})
    assert rest.trailers == (*retry, "x-http-body", "x-http-code")
    if isinstance(error, errors.HeadwaterError):
        assert message == error.message
        assert logs == []
    elif code == 500:
        assert message == "the server failed to handle the call"
        assert SECRET not in repr((native, rest))
        assert [(entry["log_level"], entry["event"]) for entry in logs] == [("error", "a call failed")] * 2


class Streaming(rest_grpc.ConnectionServiceServicer):
    def __init__(self, *steps: bytes | Exception) -> None:
        self._steps = steps

    async def ListConnections(
        self, request: rest_pb.ListConnectionsRequest, context: object
    ) -> AsyncIterator[HttpBody]:
        for step in self._steps:
            if isinstance(step, Exception):
                raise step
            yield HttpBody(content_type="application/json", data=step)


async def streamed(harness: Harness, servicer: rest_grpc.ConnectionServiceServicer) -> object:
    """Return the error that a REST caller receives."""
    server = aio.server(interceptors=[ErrorInterceptor()])
    rest_grpc.add_ConnectionServiceServicer_to_server(servicer, server)
    server.add_insecure_port(f"unix:{harness.folder}/streaming.sock")
    await server.start()
    async with aio.insecure_channel(f"unix:{harness.folder}/streaming.sock") as channel:
        request = rest_pb.ListConnectionsRequest()
        response = await Api(harness, channel).call("rest.ConnectionService/ListConnections", request, REST)
    await server.stop(None)
    return response


@pytest.mark.parametrize("before", [(), (b"[1,",)], ids=["first", "later"])
async def test_streams_return_the_same_errors(harness: Harness, before: tuple[bytes, ...]) -> None:
    whole = await streamed(harness, Streaming(*before, b"2]"))
    assert isinstance(whole, HttpBody)
    assert whole.data == b"".join(before) + b"2]"
    failed = await streamed(harness, Streaming(*before, errors.NotFound("no")))
    assert isinstance(failed, CallError)
    assert failed.http == (404, {"error": {"code": "NotFound", "message": "no"}})
    with capture_logs() as logs:
        broken = await streamed(harness, Streaming(*before, RuntimeError(SECRET)))
    assert isinstance(broken, CallError)
    assert (broken.status, SECRET in repr(broken)) == ("INTERNAL", False)
    assert [(entry["log_level"], entry["event"]) for entry in logs] == [("error", "a call failed")]


@pytest.mark.parametrize("letter", ["x", "é", "😀", '"', "\n"])
async def test_a_long_message_is_cut_before_its_header_is_too_large(harness: Harness, letter: str) -> None:
    """gRPC clients reject large headers, and then report a failure of their own."""
    native, rest = await call_both(harness, errors.BadRequest(letter * 100_000))
    assert (native.status, native.reason) == ("INVALID_ARGUMENT", "BadRequest")
    assert set(native.message) == {letter}
    assert 1000 < len(native.message.encode()) <= 1500
    assert rest.http == (400, {"error": {"code": "BadRequest", "message": native.message}})


async def test_a_long_field_is_cut(harness: Harness) -> None:
    native, rest = await call_both(harness, errors.BadRequest("no", field="é" * 10_000))
    field = "é" * 250
    assert dict(native.metadata) == {"field": field}
    assert rest.http == (400, {"error": {"code": "BadRequest", "message": "no", "field": field}})


async def test_a_clients_own_text_in_a_message_does_no_harm(api: Api) -> None:
    request = connections_pb2.CreateConnectionRequest(name="x", role="Source", connector="😀" * 50_000)
    assert (await api.call("ConnectionService/CreateConnection", request)).reason == "ConnectorNotExist"


async def test_a_service_may_have_an_error_body_of_its_own(api: Api) -> None:
    failed = await api.call("TrackService/Page", HttpBody(data=b"{"), REST, ("x-strict-mode", "1"), key=None)
    assert failed.http is not None
    assert set(failed.http[1]) == {"success", "code", "message", "meta"}
