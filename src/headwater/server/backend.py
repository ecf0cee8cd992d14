"""The backend process: serves every RPC on a unix socket. `python -m headwater.server.backend` starts it.

Here are the parts put together and the server's limits; what the RPCs do is in `headwater.api` and below.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from headwater.server import child, gateway
from headwater.server.descriptors import service_names
from headwater.server.settings import Settings

GRACE_S = 10.0
"""How long calls that have begun may go on once the process was asked to stop."""

MESSAGE_LIMIT = 8 << 20
"""Bytes in the largest message, either way: twice the largest body of the gateway."""

OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT),
    ("grpc.max_send_message_length", MESSAGE_LIMIT),
    # Envoy keeps its connection for as long as it lives; without traffic it may ping as often as every ten seconds.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.so_reuseport", 0),
)


async def run(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop` is set, then answer the calls that have begun."""
    async with open_backend(settings) as parts:
        server = grpc.aio.server(options=OPTIONS)
        await register(server, parts)
        services = service_names((gateway.configuration_dir() / "descriptors.pb").read_bytes())
        healthy = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
        reflection.enable_server_reflection([*services, health.SERVICE_NAME, reflection.SERVICE_NAME], server)
        server.add_insecure_port(f"unix:{settings.backend_socket}")
        await server.start()
        for name in ("", *services):
            await healthy.set(name, health_pb2.HealthCheckResponse.SERVING)
        await stop.wait()
        await healthy.enter_graceful_shutdown()
        await server.stop(GRACE_S)


@asynccontextmanager
async def open_backend(settings: Settings) -> AsyncIterator[None]:
    """What the servicers need, opened; closed again when the server has stopped."""
    if settings.api_key is None and not settings.api_key_path.exists():  # stands in for the catalog
        from headwater.base.identifiers import Identifiers

        settings.api_key_path.write_text(Identifiers().api_key())
    yield


async def register(server: grpc.aio.Server, parts: None) -> None:
    """Stands in for headwater.api.register."""
    import pkgutil
    from importlib import import_module

    import headwater.v1
    from headwater.v1 import system_pb2, system_pb2_grpc

    for module in pkgutil.iter_modules(headwater.v1.__path__, "headwater.v1."):
        import_module(module.name)

    class SystemService(system_pb2_grpc.SystemServiceServicer):
        async def GetHealth(self, request: object, context: object) -> system_pb2.GetHealthResponse:
            return system_pb2.GetHealthResponse(status="ok")

    system_pb2_grpc.add_SystemServiceServicer_to_server(SystemService(), server)


if __name__ == "__main__":
    child.run("backend", run, loop_factory=uvloop.new_event_loop)
