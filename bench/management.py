"""The figures of the management API: long lists, single reads, creating."""

import asyncio
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import httpx

from bench.load import Plan, measure
from headwater.api.messages.pipelines import pipeline_message
from headwater.base.clock import SystemClock
from headwater.catalog import Connection, Pipeline
from headwater.connectors.connector import Target
from headwater.connectors.registry import CONNECTORS
from headwater.v1 import connections_pb2 as pb
from headwater.v1.connections_pb2_grpc import ConnectionServiceStub
from tests.system import HEADWATER, RunningSystem, start

CONNECTIONS = 1_000
TARGETS: tuple[Target, ...] = ("Event", "User", "User")
ROUNDS = 5
UNLIMITED = {
    "HEADWATER_RATE_LIMIT_MANAGEMENT": "1000000",
    "HEADWATER_MAX_CONNECTIONS": "1000000",
    "HEADWATER_MAX_PIPELINES": "1000000",
}


def listing(folder: Path, seconds: float) -> None:
    """1,000 connections with 3,000 pipelines, over REST and gRPC, against building and serialising the response
    once."""
    with _running(folder) as system, httpx.Client(base_url=system.base_url, headers=_plain(system)) as client:
        asyncio.run(_fill(system))
        metadata = (("authorization", f"Bearer {system.api_key}"),)
        options = (("grpc.max_receive_message_length", 64 << 20),)
        with grpc.insecure_channel(f"127.0.0.1:{system.port}", options) as channel:
            stub = ConnectionServiceStub(channel)
            times: dict[str, list[float]] = {"gRPC": [], "REST": [], "baseline": []}
            for _ in range(ROUNDS + 1):
                times["gRPC"].append(
                    _seconds(lambda: stub.ListConnections(pb.ListConnectionsRequest(), metadata=metadata))
                )
                times["REST"].append(_seconds(lambda: client.get("/v1/connections", timeout=60).raise_for_status()))
                times["baseline"].append(_seconds(lambda: _build_response().SerializeToString()))
        baseline = statistics.median(times["baseline"][1:])
        for api in ("gRPC", "REST"):
            median = statistics.median(times[api][1:])
            print(
                f"  {api} {1000 * median:.0f} ms   baseline {1000 * baseline:.0f} ms   "
                f"ratio {median / baseline:.1f} (goal 3)"
            )


def creating(folder: Path, seconds: float) -> None:
    """POST /v1/connections through Envoy, 16 in parallel, each a transaction on SQLite (goal 300/s)."""
    with _running(folder) as system:
        for _ in range(3):
            plan = Plan(system.port, "create", seconds, 16, f"Bearer {system.api_key}", "/v1/connections")
            result = measure(plan)
            assert not result.failures, result
            print(f"  {result.requests / result.seconds:,.0f} connections/s   p99 {1000 * result.p99:.0f} ms")


def _plain(system: RunningSystem) -> dict[str, str]:
    """Return the headers of a caller that does not accept gzip, which would be measured too."""
    return {**system.authorization, "accept-encoding": "identity"}


async def _fill(system: RunningSystem) -> None:
    async with httpx.AsyncClient(base_url=system.base_url, headers=system.authorization, timeout=60) as client:
        gate = asyncio.Semaphore(16)

        async def one(number: int) -> None:
            async with gate:
                body = {"name": f"Source {number}", "role": "Source", "connector": "http"}
                connection = (await client.post("/v1/connections", json=body)).raise_for_status().json()["id"]
                for target in TARGETS:
                    pipeline = {"connection": connection, "target": target, "name": target, "enabled": True}
                    (await client.post("/v1/pipelines", json=pipeline)).raise_for_status()

        await asyncio.gather(*(one(number) for number in range(CONNECTIONS)))


def _build_response() -> pb.ListConnectionsResponse:
    """Build the same response from objects of the catalog in one process."""
    now = SystemClock().now()
    response = pb.ListConnectionsResponse()
    for number in range(1, CONNECTIONS + 1):
        pipelines = tuple(
            Pipeline(
                id=number, workspace=1, connection=number, name=target, target=target, enabled=True, created_at=now
            )
            for target in TARGETS
        )
        connection = Connection(
            id=number,
            workspace=1,
            name=f"Source {number}",
            connector="http",
            role="Source",
            strategy=None,
            sending_mode=None,
            created_at=now,
            pipelines=pipelines,
        )
        response.connections.add(
            id=connection.id,
            name=connection.name,
            connector=connection.connector,
            connector_type="SDK",
            role=connection.role,
            pipelines=[pipeline_message(pipeline, connection, CONNECTORS) for pipeline in pipelines],
        )
    return response


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


@contextmanager
def _running(folder: Path) -> Iterator[RunningSystem]:
    system = start(folder, None, headwater=HEADWATER, **UNLIMITED)
    try:
        yield system
    finally:
        system.stop()
