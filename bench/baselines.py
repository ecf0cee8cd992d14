"""The baseline of a worker: the same work in one process, without the parts that make it a system."""

import sqlite3
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.payload import PAYLOAD, Batch


@dataclass(frozen=True)
class Baseline:
    """The throughput of one process without a system."""

    rate: float
    """Events a second."""
    cpu_microseconds: float
    """Processor time an event."""


def parse_and_insert(seconds: float, folder: Path, payload: str = PAYLOAD) -> Baseline:
    """Measure one process: parse each batch with orjson and insert its events into SQLite in one durable transaction
    (WAL, synchronous FULL). It uses no network, no checks and no second reader."""
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
    return Baseline(events / spent, 1e6 * cpu / events)
