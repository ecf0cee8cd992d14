"""Metrics of one process and of the whole system, in Prometheus's format."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from headwater.base.metrics import DestinationStatus
from headwater.base.steps import StepCounts
from headwater.server.metrics import (
    MAX_LABELLED_DESTINATIONS,
    MAX_LABELLED_PIPELINES,
    BackendMetrics,
    Counted,
    CourierMetrics,
    SchedulerMetrics,
    WorkerMetrics,
    serve_metrics,
)
from headwater.server.probe import request
from tests.e2e.source import make_source
from tests.system import HTTP, RunningSystem, free_port, start, wait_until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(page: str) -> Samples:
    """The values by name and labels; fails for a page that is not in the format, or describes a metric twice."""
    families = list(text_string_to_metric_families(page))
    assert len({family.name for family in families}) == len(families)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


async def read_page(metrics: Counted, folder: Path, measured: dict[str, int] | None = None) -> Samples:
    async def measure() -> dict[str, int]:
        assert measured is not None
        return measured

    async with serve_metrics(metrics, folder / "m.sock", None if measured is None else measure):
        status, page = await request("GET", "/metrics", folder / "m.sock")
    assert status == 200
    return samples(page)


async def test_calls_events_and_commits(tmp_path: Path) -> None:
    metrics = BackendMetrics()
    metrics.rpc_handled("/a.B/C", "OK", 0.004)
    metrics.rpc_handled("/a.B/C", "NOT_FOUND", 0.004)
    metrics.events_accepted("track", 5)
    metrics.events_rejected("track", "BadRequest", 2)
    metrics.log_committed(7, 0.0004)
    found = await read_page(metrics, tmp_path)
    assert found["headwater_rpc_handled_total", (("method", "/a.B/C"), ("status", "NOT_FOUND"))] == 1
    assert found["headwater_rpc_duration_seconds_bucket", (("le", "0.005"), ("method", "/a.B/C"))] == 2
    assert found["headwater_rpc_duration_seconds_bucket", (("le", "0.0025"), ("method", "/a.B/C"))] == 0
    assert found["headwater_events_accepted_total", (("protocol", "track"),)] == 5
    assert found["headwater_events_rejected_total", (("code", "BadRequest"), ("protocol", "track"))] == 2
    assert found["headwater_log_commit_entries_sum", ()] == 7
    assert found["headwater_log_commit_duration_seconds_bucket", (("le", "0.0005"),)] == 1
    assert found["process_resident_memory_bytes", ()] > 1_000_000
    assert ("process_cpu_seconds_total", ()) in found


async def test_batches_and_the_backlog(tmp_path: Path) -> None:
    metrics = WorkerMetrics()
    steps: StepCounts = {("Finalize", "Passed"): 5, ("Filter", "Filtered"): 6}
    metrics.batch_processed(0.02, stored=3, duplicates=2, rejected=1, suppressed=7, identities=4, steps=steps)
    metrics.identities_resolved(5, postponed=6)
    metrics.janitor_failed("Unavailable")
    found = await read_page(metrics, tmp_path, {"warehouse": 12, "lane": 7})
    assert found["headwater_log_backlog_bytes", (("consumer", "warehouse"),)] == 12
    assert found["headwater_log_backlog_bytes", (("consumer", "lane"),)] == 7
    assert found["headwater_worker_batch_duration_seconds_count", ()] == 1
    events = ("events_stored", "events_duplicate", "events_rejected", "events_suppressed")
    people = ("identities_merged", "identities_resolved", "identities_postponed")
    totals = [found[f"headwater_worker_{name}_total", ()] for name in (*events, *people)]
    assert totals == [3, 2, 1, 7, 4, 5, 6]
    assert found["headwater_worker_janitor_errors_total", (("error", "Unavailable"),)] == 1
    assert found["headwater_worker_steps_total", (("outcome", "Passed"), ("step", "Finalize"))] == 5
    assert found["headwater_worker_steps_total", (("outcome", "Filtered"), ("step", "Filter"))] == 6


async def test_deliveries_by_destination(tmp_path: Path) -> None:
    metrics = CourierMetrics()
    metrics.deliveries_ended(7, 8, "Delivered", 3)
    metrics.delivered_after(7, [0.02, 0.2])
    metrics.delivery_requested(7, "2xx", 0.03, 3)
    metrics.delivery_requested(7, "429", 0.01, 3)
    metrics.delivery_delayed(7, 1.5)
    metrics.delivery_halved(7)
    metrics.deliveries_repeated(7, 4)
    metrics.destination_status(7, DestinationStatus(open_bytes=12, oldest_open_seconds=2.5, paused=True))
    found = await read_page(metrics, tmp_path)
    name = "headwater_delivery"
    by = (("destination", "7"),)
    assert found[f"{name}_events_total", (*by, ("outcome", "Delivered"), ("pipeline", "8"))] == 3
    assert found[f"{name}_requests_total", (*by, ("status_class", "429"))] == 1
    assert found[f"{name}_seconds_bucket", (*by, ("le", "0.025"))] == 1
    assert found[f"{name}_seconds_count", by] == 2
    assert found[f"{name}_request_seconds_count", by] == 2
    assert found[f"{name}_batch_events_sum", by] == 6
    totals = ("halvings", "duplicates_possible", "rate_wait_seconds")
    assert [found[f"{name}_{each}_total", by] for each in totals] == [1, 4, 1.5]
    gauges = ("open_bytes", "oldest_open_seconds", "paused", "dead_letters")
    assert [found[f"{name}_{each}", by] for each in gauges] == [12, 2.5, 1, 0]


def of_destinations(found: Samples) -> Counter[str]:
    return Counter(value for _, labels in found for label, value in labels if label == "destination")


async def test_the_samples_of_destinations_are_bounded_and_go_with_them(tmp_path: Path) -> None:
    metrics = CourierMetrics()
    for destination in range(1, MAX_LABELLED_DESTINATIONS + 6):
        metrics.destination_status(destination, DestinationStatus())
        for pipeline in range(MAX_LABELLED_PIPELINES + 5):
            metrics.deliveries_ended(destination, pipeline, "Failed", 1)
        metrics.delivery_requested(destination, "5xx", 0.1, 1)
    found = of_destinations(await read_page(metrics, tmp_path))
    assert len(found) == MAX_LABELLED_DESTINATIONS + 1
    assert found["1"] == found[str(MAX_LABELLED_DESTINATIONS)] > found["other"]
    metrics.destinations_present([2, 3])
    metrics.delivery_halved(1_000)
    found = of_destinations(await read_page(metrics, tmp_path))
    assert set(found) == {"2", "3", "1000", "other"}


async def test_a_backlog_that_cannot_be_measured_hides_nothing(tmp_path: Path) -> None:
    metrics = WorkerMetrics()

    async def away() -> dict[str, int]:
        raise ConnectionError("the database is away")

    async with serve_metrics(metrics, tmp_path / "m.sock", away):
        _, page = await request("GET", "/metrics", tmp_path / "m.sock")
    found = samples(page)
    assert not [name for name, _ in found if name == "headwater_log_backlog_bytes"]
    assert ("headwater_worker_events_stored_total", ()) in found


async def test_runs(tmp_path: Path) -> None:
    metrics = SchedulerMetrics()
    metrics.run_process_started("Import")
    metrics.run_process_started("Import")
    metrics.run_process_failed("Import")
    metrics.run_ended("Import", "Succeeded", 30.0)
    metrics.run_ended("Export", "Skipped", None)
    metrics.run_processes_present(2)
    found = await read_page(metrics, tmp_path, {"Queued": 4, "Running": 3})
    imports = ("kind", "Import")
    assert found["headwater_run_processes_started_total", (imports,)] == 2
    assert found["headwater_run_processes_failed_total", (imports,)] == 1
    assert found["headwater_runs_ended_total", (imports, ("outcome", "Succeeded"))] == 1
    assert found["headwater_runs_ended_total", (("kind", "Export"), ("outcome", "Skipped"))] == 1
    assert found["headwater_run_duration_seconds_bucket", (imports, ("le", "60.0"))] == 1
    assert found["headwater_run_duration_seconds_sum", (imports,)] == 30
    assert found["headwater_run_processes", ()] == 2
    assert found["headwater_runs", (("status", "Queued"),)] == 4


@pytest.fixture(scope="module")
def metrics_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def counted(tmp_path_factory: pytest.TempPathFactory, metrics_port: int) -> Iterator[RunningSystem]:
    running = start(tmp_path_factory.mktemp("metrics") / "data", None, HEADWATER_METRICS_PORT=str(metrics_port))
    yield running
    assert running.stop() == 0, running.errors


def test_the_whole_system(counted: RunningSystem, metrics_port: int) -> None:
    source = make_source(counted)
    event = {"type": "track", "userId": "ada", "event": "Seen", "messageId": "1"}
    source.send("batch", {"batch": [event, event, {"type": "nosuch"}]})
    source.wait_for(1)
    assert HTTP.get(f"{counted.base_url}/v1/connections/7", headers=counted.authorization).status_code == 404

    def scrape() -> Samples:
        response = HTTP.get(f"http://127.0.0.1:{metrics_port}/metrics")
        assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
        return samples(response.text)

    worker = (("process", "worker"),)
    wait_until(lambda: scrape()["headwater_worker_batch_duration_seconds_count", worker] >= 1, 60)
    found = scrape()
    for process in ("backend", "worker"):
        assert found["headwater_up", (("process", process),)] == 1
        assert found["process_resident_memory_bytes", (("process", process),)] > 1_000_000
    assert found["headwater_events_accepted_total", (("process", "backend"), ("protocol", "track"))] == 2
    rejected = (("code", "BadRequest"), ("process", "backend"), ("protocol", "track"))
    assert found["headwater_events_rejected_total", rejected] == 1
    assert found["headwater_worker_events_stored_total", worker] == 1
    assert found["headwater_worker_events_duplicate_total", worker] == 1
    assert found["headwater_worker_events_rejected_total", worker] == 1
    assert found["headwater_worker_identities_merged_total", worker] == 1
    method = ("method", "/headwater.v1.ConnectionService/GetConnection")
    assert found["headwater_rpc_handled_total", (method, ("process", "backend"), ("status", "NOT_FOUND"))] == 1
    # The log learns of a batch after the batch was counted.
    backlog = "headwater_log_backlog_bytes", (("consumer", "warehouse"), *worker)
    wait_until(lambda: scrape()[backlog] == 0, 60)
