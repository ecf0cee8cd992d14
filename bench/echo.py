"""The baseline of a call: a minimal server behind the same Envoy, `python -m bench.echo SOCKET RAW_SOCKET`.

It responds to GetConnection over gRPC, and to Track as a raw call, with one fixed message each: without a key, a lookup
or a log.
"""

import sys
from pathlib import Path

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from headwater.api.ingest import IngestRequest, IngestResponse
from headwater.api.ingest_http import HttpServer, Router
from headwater.api.messages.schema import type_message
from headwater.api.services import track
from headwater.management.pipelines import INCOMING_EVENT_SCHEMA
from headwater.v1 import connections_pb2 as pb
from headwater.v1 import connections_pb2_grpc, pipelines_pb2, system_pb2, system_pb2_grpc


def _pipeline(number: int, target: str) -> pipelines_pb2.Pipeline:
    return pipelines_pb2.Pipeline(
        id=number,
        name=target,
        connector="http",
        connector_type="SDK",
        connection=1371036433,
        connection_role="Source",
        target=target,
        enabled=True,
    )


ACCEPTED = IngestResponse(b"{}")
RESPONSE = pb.Connection(
    id=1371036433,
    name="Bench",
    connector="http",
    connector_type="SDK",
    role="Source",
    pipelines=[_pipeline(1371036434, "Event"), _pipeline(1371036435, "User")],
)
# The same size as the real response: turning it into JSON is most of the cost of a call.
RESPONSE.pipelines[1].in_schema.CopyFrom(type_message(INCOMING_EVENT_SCHEMA))


class _Echo(connections_pb2_grpc.ConnectionServiceServicer):
    async def GetConnection(self, request: pb.GetConnectionRequest, context: object) -> pb.Connection:
        return RESPONSE


async def _track(request: IngestRequest) -> IngestResponse:
    return ACCEPTED


class _Health(system_pb2_grpc.SystemServiceServicer):
    async def GetHealth(self, request: system_pb2.GetHealthRequest, context: object) -> system_pb2.GetHealthResponse:
        return system_pb2.GetHealthResponse(status="ok")


async def serve(socket: str, ingest_socket: str) -> None:
    """Serve until killed."""
    router = Router()
    router.add(track.SERVICE, {"Track": _track})
    await HttpServer(router, max_body_bytes=1 << 20).start(Path(ingest_socket))
    server = grpc.aio.server()
    connections_pb2_grpc.add_ConnectionServiceServicer_to_server(_Echo(), server)
    system_pb2_grpc.add_SystemServiceServicer_to_server(_Health(), server)
    healthy = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    await healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    uvloop.run(serve(*sys.argv[1:]))
