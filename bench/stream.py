"""The load generator of the typed stream, a process of its own: `python -m bench.stream PORT WRITE_KEY SECONDS`.

It builds one request, gives its events new ids for each sending, and continues while responses are outstanding.
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import asdict

import uvloop
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio

from bench import payload
from bench.load import Result
from bench.payload import EVENTS
from headwater.v1 import events_pb2 as pb
from headwater.v1.events_pb2_grpc import EventServiceStub

WINDOW = 32
"""Maximum number of requests without a response."""


def _event(number: int) -> pb.Event:
    """Return an event of `bench.payload` as a typed message."""
    sent = payload.event(number=number)
    user_id, anonymous_id = payload.random_user()
    context = sent["context"]
    return pb.Event(
        type=sent["type"],
        user_id=user_id,
        anonymous_id=anonymous_id,
        event=sent["event"],
        timestamp=Timestamp(seconds=int(time.time()) - 1),
        context=pb.EventContext(
            library=pb.EventContext.Library(**context["library"]),
            locale=context["locale"],
            user_agent=context["userAgent"],
            page=pb.EventContext.Page(**context["page"]),
        ),
        integrations_json="{}",
        properties_json=json.dumps(sent["properties"]),
    )


async def run(port: int, write_key: str, seconds: float) -> Result:
    """Stream for this time, then wait until all of it is acknowledged."""
    result, latencies, sent_at = Result(), list[float](), list[float]()
    room = asyncio.Semaphore(WINDOW)
    request = pb.StreamEventsRequest(events=map(_event, range(EVENTS)))
    began = time.perf_counter()

    async def requests() -> AsyncIterator[pb.StreamEventsRequest]:
        while time.perf_counter() < began + seconds:
            await room.acquire()
            fresh = os.urandom(18 * EVENTS).hex()
            for index, event in enumerate(request.events):
                event.message_id = fresh[36 * index : 36 * index + 36]
                event.user_id, event.anonymous_id = payload.random_user()
            sent_at.append(time.perf_counter())
            yield request

    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        metadata = (("authorization", f"Bearer {write_key}"),)
        async for response in EventServiceStub(channel).StreamEvents(
            requests(), metadata=metadata, timeout=seconds + 60
        ):
            now = time.perf_counter()
            for number in range(result.requests, response.requests):
                latencies.append(now - sent_at[number])
                room.release()
            result.requests = response.requests
            result.failures += len(response.rejected)
    result.seconds, result.cpu_seconds = time.perf_counter() - began, time.process_time()
    latencies.sort()
    result.p50, result.p99 = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
    return result


def measure_stream(port: int, write_key: str, seconds: float) -> Result:
    """Run the load generator in a process of its own."""
    command = [sys.executable, "-m", "bench.stream", str(port), write_key, str(seconds)]
    return Result(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))))))
