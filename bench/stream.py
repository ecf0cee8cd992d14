"""The load generator of the typed stream, a process of its own: `python -m bench.stream PORT WRITE_KEY SECONDS`.

It builds one request and gives its events new ids for each time it is sent, and sends on while answers are out.
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

from bench.load import Result
from bench.payload import EVENTS
from headwater.v1 import events_pb2 as pb
from headwater.v1.events_pb2_grpc import EventServiceStub

WINDOW = 32
"""How many requests may be out without an answer."""


def _event(number: int) -> pb.Event:
    """The event of `bench.payload`, typed."""
    return pb.Event(
        type="track",
        user_id=f"user-{number % 50}",
        anonymous_id=f"00000000-0000-0000-0000-{number + 7:012x}",
        event="Order Completed",
        timestamp=Timestamp(seconds=1_795_341_600),
        context=pb.EventContext(
            library=pb.EventContext.Library(name="bench", version="1.0.0"),
            locale="en-US",
            user_agent="Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0",
            page=pb.EventContext.Page(path="/checkout", title="Checkout", url="https://shop.example/checkout?step=3"),
        ),
        integrations_json="{}",
        properties_json=json.dumps(
            {
                "orderId": f"order-{number}",
                "total": 129.95,
                "currency": "EUR",
                "products": [{"sku": f"sku-{number}", "price": 64.5, "quantity": 2}],
            }
        ),
    )


async def run(port: int, write_key: str, seconds: float) -> Result:
    """Stream for so many seconds, and wait until all of it is acknowledged."""
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
            sent_at.append(time.perf_counter())
            yield request

    async with aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        metadata = (("authorization", f"Bearer {write_key}"),)
        async for answer in EventServiceStub(channel).StreamEvents(requests(), metadata=metadata, timeout=seconds + 60):
            now = time.perf_counter()
            for number in range(result.requests, answer.requests):
                latencies.append(now - sent_at[number])
                room.release()
            result.requests = answer.requests
            result.failures += len(answer.rejected)
    result.seconds, result.cpu_seconds = time.perf_counter() - began, time.process_time()
    latencies.sort()
    result.p50, result.p99 = latencies[len(latencies) // 2], latencies[len(latencies) * 99 // 100]
    return result


def measure_stream(port: int, write_key: str, seconds: float) -> Result:
    """Run it in a process of its own."""
    command = [sys.executable, "-m", "bench.stream", str(port), write_key, str(seconds)]
    return Result(**json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))


if __name__ == "__main__":
    print(json.dumps(asdict(uvloop.run(run(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]))))))
