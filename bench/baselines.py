"""The floors: what the same work costs with everything taken away that makes it a system."""

import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.payload import PAYLOAD, Batch


@dataclass(frozen=True)
class Floor:
    """What one process does without a system around it."""

    rate: float
    """Events a second."""
    cpu_microseconds: float
    """Processor time an event."""


def parse_and_insert(seconds: float, folder: Path, payload: str = PAYLOAD) -> Floor:
    """Measure one process: parse each batch with orjson, insert its events into SQLite as one durable
    transaction (WAL, synchronous FULL). No network, no checks, no second reader."""
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".db") as file:
        connection = sqlite3.connect(file.name, isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE events (id INTEGER PRIMARY KEY, message_id TEXT, user_id TEXT, body BLOB)")
        batch = Batch(payload=payload)
        spent = cpu = 0.0
        events = 0
        while spent < seconds:
            body = batch.refresh()
            start, cpu_start = time.perf_counter(), time.process_time()
            parsed = orjson.loads(body)["batch"]
            rows = [(event["messageId"], event["userId"], orjson.dumps(event)) for event in parsed]
            connection.execute("BEGIN")
            connection.executemany("INSERT INTO events (message_id, user_id, body) VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
            spent += time.perf_counter() - start
            cpu += time.process_time() - cpu_start
            events += len(rows)
        connection.close()
    return Floor(events / spent, 1e6 * cpu / events)
