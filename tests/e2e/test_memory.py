"""The memory of the processes under a burst. HEADWATER_BURST_SECONDS makes it long, and then a limit is checked."""

import asyncio
import json
import os
import time
import uuid
from pathlib import Path
from typing import Final

import httpx
import pytest

from tests.e2e.crash.arrangement import peak_mib
from tests.e2e.source import make_source
from tests.system import HTTP, start, wait_until

SECONDS: Final = float(os.environ.get("HEADWATER_BURST_SECONDS", "2"))
LONG_SECONDS: Final = 10
CONNECTIONS: Final = 16
MAX_MIB: Final = 300
EVENTS: Final = 100
"""Number of events in a call, of about 700 bytes each."""
CAUGHT_UP_SECONDS: Final = 300

_PROPERTIES: Final = {"text": "x" * 500, "total": 12.5, "items": [1, 2, 3]}
_CONTEXT: Final = {"userAgent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/130.0", "locale": "en-US"}


def _call() -> bytes:
    events = [
        {"type": "track", "userId": f"u{id_[:4]}", "messageId": id_, "event": "E", "properties": _PROPERTIES}
        for id_ in (str(uuid.uuid4()) for _ in range(EVENTS))
    ]
    return json.dumps({"batch": events, "context": _CONTEXT}).encode()


@pytest.mark.timeout(CAUGHT_UP_SECONDS + 2 * SECONDS)
async def test_memory_is_bounded_under_a_burst(tmp_path: Path) -> None:
    system = start(tmp_path / "data")
    try:
        source = make_source(system)
        accepted = 0

        async def send(until: float) -> None:
            nonlocal accepted
            async with httpx.AsyncClient(base_url=system.base_url, auth=(source.write_key, ""), timeout=30) as client:
                while time.monotonic() < until:
                    response = await client.post("/v1/batch", content=_call())
                    if response.status_code == 200:
                        accepted += EVENTS
                    else:
                        assert response.status_code == 429, response.text

        until = time.monotonic() + SECONDS
        await asyncio.gather(*(send(until) for _ in range(CONNECTIONS)))
        source.send("track", {"userId": "u", "event": "last", "messageId": "last"})
        url = f"{system.base_url}/v1/events?limit=1&order=receivedAt&properties=messageId"

        def is_processed() -> bool:
            events = HTTP.get(url, headers=system.authorization, timeout=30).json()["events"]
            return bool(events) and events[0]["messageId"] == "last"

        await asyncio.to_thread(wait_until, is_processed, CAUGHT_UP_SECONDS)
        peaks = {name: peak_mib(pid) for name, pid in {**system.children(), "supervisor": system.process.pid}.items()}
        print(f"{accepted} events in {SECONDS:.0f} s; most memory in MiB: {peaks}")
        assert accepted > 0
        if SECONDS >= LONG_SECONDS:
            assert max(peaks.values()) < MAX_MIB, peaks
    finally:
        assert system.stop() == 0, system.errors
