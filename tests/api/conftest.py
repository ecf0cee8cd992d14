"""A real grpc.aio server with all services on a unix socket, and clients of it."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from google.rpc import error_details_pb2, status_pb2
from grpc import aio

import headwater.rest.v1
import headwater.v1
from headwater.api import ERROR_BODIES, LENIENT_SERVICES, ErrorInterceptor, Services, register
from headwater.catalog import ApiKey, Connection, api_key_digest
from tests.harness import Harness, add_source, open_harness

for _package in (headwater.v1, headwater.rest.v1):
    for _module in iter_modules(_package.__path__, f"{_package.__name__}."):
        import_module(_module.name)  # so that every message and service is registered

RESTRICTED = "api_restricted-to-one-workspace"
UNRESTRICTED = "api_opens-every-workspace"


@dataclass(frozen=True)
class CallError:
    """An error as a caller receives it."""

    status: str
    message: str
    reason: str = ""
    metadata: tuple[tuple[str, str], ...] = ()
    http: tuple[int, Any] | None = None
    """Status and body for REST callers."""
    trailers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Api:
    """A server, and a connection to it."""

    harness: Harness
    channel: aio.Channel

    async def call(self, method: str, request: Any, *metadata: tuple[str, str], key: str | None = RESTRICTED) -> Any:
        """Call "Service/Method" and return its response: the message, the body that a stream's pieces form, or the
        error."""
        service = headwater_service(method)
        kind = self.channel.unary_stream if service.server_streaming else self.channel.unary_unary
        callable_: Any = kind(
            f"/{service.containing_service.full_name}/{service.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_class(service.output_type).FromString,
        )
        authorization = () if key is None else (("authorization", f"Bearer {key}"),)
        try:
            call = callable_(request, metadata=(*authorization, *metadata), timeout=20)
            if not service.server_streaming:
                return await call
            pieces = [piece async for piece in call]
            return HttpBody(content_type=pieces[0].content_type, data=b"".join(piece.data for piece in pieces))
        except aio.AioRpcError as error:
            return _read_error(error)


REST_SERVICES = ("TrackService", "ClientService", "NativeEventService")
"""The services that are in the package headwater.rest.v1 only."""


def headwater_service(method: str) -> Any:
    """Return the descriptor of "Service/Method" of headwater.v1, or of headwater.rest.v1 with the prefix "rest."."""
    from google.protobuf import descriptor_pool

    service, _, name = method.partition("/")
    package = "headwater.rest.v1" if service.startswith("rest.") or service in REST_SERVICES else "headwater.v1"
    full_name = f"{package}.{service.removeprefix('rest.')}"
    return descriptor_pool.Default().FindServiceByName(full_name).methods_by_name[name]


def message_class(descriptor: Any) -> Any:
    from google.protobuf import message_factory

    return message_factory.GetMessageClass(descriptor)


def _read_error(error: aio.AioRpcError) -> CallError:
    trailers = dict(error.trailing_metadata() or ())
    http = None
    if "x-http-code" in trailers:
        http = (int(str(trailers["x-http-code"])), json.loads(trailers["x-http-body"]))
    info = error_details_pb2.ErrorInfo()
    if "grpc-status-details-bin" in trailers:
        status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
        assert status.code == error.code().value[0]
        first, *others = status.details
        first.Unpack(info)
        assert [other.TypeName() for other in others] == ["google.rpc.BadRequest"] * ("field" in info.metadata)
        assert info.domain == "headwater"
    return CallError(
        error.code().name,
        error.details() or "",
        info.reason,
        tuple(sorted(info.metadata.items())),
        http,
        tuple(sorted(trailers)),
    )


@pytest.fixture
async def harness(tmp_path: Path, database_url: str | None) -> AsyncIterator[Harness]:
    async with open_harness(tmp_path, database_url=database_url) as harness:
        async with harness.catalog.change() as change:
            for token, workspace in ((RESTRICTED, harness.workspace), (UNRESTRICTED, None)):
                change.add_api_key(
                    ApiKey(
                        id=change.new_id(),
                        workspace=workspace,
                        name="CI",
                        digest=api_key_digest(token),
                        hint="",
                        created_at=change.now,
                    )
                )
        yield harness


def services(harness: Harness) -> Services:
    """Return the dependencies of the servicers."""
    return Services(
        harness.catalog,
        harness.intake,
        harness.state,
        harness.warehouse,
        harness.functions,
        harness.log,
        harness.store,
        harness.clock,
        harness.deliveries,
        harness.operations,
        harness.runs,
    )


@pytest.fixture
async def api(harness: Harness) -> AsyncIterator[Api]:
    server = aio.server(interceptors=[ErrorInterceptor(ERROR_BODIES, lenient=LENIENT_SERVICES)])
    register(server, services(harness))
    address = f"unix:{harness.folder}/api.sock"
    server.add_insecure_port(address)
    await server.start()
    async with aio.insecure_channel(address) as channel:
        yield Api(harness, channel)
    await server.stop(None)


@pytest.fixture
async def source(harness: Harness) -> Connection:
    return await add_source(harness.catalog, harness.workspace)


REST = ("x-envoy-original-path", "/v1/anything")
"""The metadata that the gateway adds to calls that came as JSON over HTTP."""
