"""Collects the metrics of a process for Prometheus, and serves them on a unix socket.

The supervisor reads these sockets and serves the one metrics port. Labels have few values: methods of the protos, gRPC
statuses, protocols and error codes. No value from a caller becomes a label.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.metrics import MetricWrapperBase

from headwater.base.metrics import DeliveryEnd, DestinationStatus, Metrics, ResponseClass, RunEnd, RunKind
from headwater.base.steps import StepCounts
from headwater.server.scrape import handler

MEASURE_TIMEOUT_SECONDS = 1.0
"""Maximum duration of a measurement of a scrape. One that takes longer has no samples."""

MAX_LABELLED_DESTINATIONS = 200
"""Maximum number of destinations with samples of their own: 60 for each, and 5 for each pipeline."""
MAX_LABELLED_PIPELINES = 20
"""Maximum number of pipelines of a destination with samples of their own."""
OTHER = "other"
"""The label of further destinations and pipelines."""

_CALL_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_COMMIT_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
_DELIVERY_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 300, 3600, 21600, 86400)
_GROUP_ENTRIES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_RUN_SECONDS = (1, 5, 15, 60, 300, 900, 3600, 14400, 43200, 86400)
_BATCH_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

_log = structlog.get_logger(__name__)

Measure = Callable[[], Awaitable[Mapping[str, int]]]
"""Returns the present values of a gauge by its label."""
Counted = TypeVar("Counted", "BackendMetrics", "WorkerMetrics", "CourierMetrics", "SchedulerMetrics")


class BackendMetrics(Metrics):
    """Metrics of a backend."""

    def __init__(self) -> None:
        self.registry = _registry()
        self._calls = Counter("headwater_rpc_handled", "Completed calls.", ["method", "status"], registry=self.registry)
        self._call_seconds = Histogram(
            "headwater_rpc_duration_seconds",
            "Duration of a call in the backend.",
            ["method"],
            buckets=_CALL_SECONDS,
            registry=self.registry,
        )
        self._accepted = Counter(
            "headwater_events_accepted", "Events that are durable.", ["protocol"], registry=self.registry
        )
        self._rejected = Counter(
            "headwater_events_rejected",
            "Rejected events and calls, by the code of the error.",
            ["protocol", "code"],
            registry=self.registry,
        )
        self._group_entries = Histogram(
            "headwater_log_commit_entries",
            "Calls whose events were made durable by one commit.",
            buckets=_GROUP_ENTRIES,
            registry=self.registry,
        )
        self._commit_seconds = Histogram(
            "headwater_log_commit_duration_seconds",
            "Duration of writing and syncing one group of the event log.",
            buckets=_COMMIT_SECONDS,
            registry=self.registry,
        )

    def rpc_handled(self, method: str, status: str, seconds: float) -> None:
        self._calls.labels(method, status).inc()
        self._call_seconds.labels(method).observe(seconds)

    def events_accepted(self, protocol: str, events: int) -> None:
        self._accepted.labels(protocol).inc(events)

    def events_rejected(self, protocol: str, code: str, events: int) -> None:
        self._rejected.labels(protocol, code).inc(events)

    def log_committed(self, entries: int, seconds: float) -> None:
        self._group_entries.observe(entries)
        self._commit_seconds.observe(seconds)


class WorkerMetrics(Metrics):
    """Metrics of a worker."""

    def __init__(self) -> None:
        self.registry = _registry()
        self.measured = Gauge(
            "headwater_log_backlog_bytes",
            "Approximate bytes of the event log that each consumer has not processed.",
            ["consumer"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "headwater_worker_batch_duration_seconds",
            "Duration of one batch of the log.",
            buckets=_BATCH_SECONDS,
            registry=self.registry,
        )
        (
            self._stored, self._duplicates, self._rejected, self._suppressed, self._identities, self._resolved,
            self._postponed,
        ) = (
            Counter(f"headwater_worker_{name}", text, registry=self.registry)
            for name, text in (
                ("events_stored", "Events that were written to the warehouse."),
                ("events_duplicate", "Events of messages that were stored before."),
                ("events_rejected", "Rejected events and calls that were stored with their reason."),
                ("events_suppressed", "Events that were dropped because the person is erased."),
                ("identities_merged", "Identities that were created or updated."),
                ("identities_resolved", "Changed identities whose profiles were updated."),
                ("identities_postponed", "Changed identities that wait for a later resolution."),
            )
        )  # fmt: skip
        self._failed = Counter(
            "headwater_worker_batches_failed",
            "Batches that failed for another reason than an outage, by the class of the exception.",
            ["error"],
            registry=self.registry,
        )
        self._isolated = Counter(
            "headwater_worker_events_isolated",
            "Events that made a batch fail, and were stored without their effects or kept as rejected.",
            registry=self.registry,
        )
        self._profile_errors = Counter(
            "headwater_worker_profile_errors",
            "Failed resolutions of changed identities, by the class of the exception.",
            ["error"],
            registry=self.registry,
        )
        self._janitor_errors = Counter(
            "headwater_worker_janitor_errors",
            "Failed rounds of the janitor, by the class of the exception.",
            ["error"],
            registry=self.registry,
        )
        self._steps = Counter(
            "headwater_worker_steps",
            "Pipelines' last steps for events, by the step and how it ended.",
            ["step", "outcome"],
            registry=self.registry,
        )
        self._applied = Counter(
            "headwater_worker_lane_entries_applied",
            "Lane entries whose results were applied.",
            registry=self.registry,
        )

    def batch_failed(self, error: str) -> None:
        self._failed.labels(error).inc()

    def identities_resolved(self, identities: int, *, postponed: int) -> None:
        self._resolved.inc(identities)
        self._postponed.inc(postponed)

    def profiles_failed(self, error: str) -> None:
        self._profile_errors.labels(error).inc()

    def janitor_failed(self, error: str) -> None:
        self._janitor_errors.labels(error).inc()

    def events_isolated(self, events: int) -> None:
        self._isolated.inc(events)

    def lane_results_applied(self, seconds: float, entries: int) -> None:
        self._applied.inc(entries)

    def batch_processed(
        self,
        seconds: float,
        *,
        stored: int,
        duplicates: int,
        rejected: int,
        suppressed: int,
        identities: int,
        steps: StepCounts,
    ) -> None:
        self._seconds.observe(seconds)
        self._stored.inc(stored)
        self._duplicates.inc(duplicates)
        self._rejected.inc(rejected)
        self._suppressed.inc(suppressed)
        self._identities.inc(identities)
        for (step, outcome), number in steps.items():
            self._steps.labels(step, outcome).inc(number)


class CourierMetrics(Metrics):
    """Metrics of a courier."""

    def __init__(self) -> None:
        self.registry = _registry()
        self._run_seconds = Histogram(
            "headwater_lane_run_duration_seconds",
            "Duration of a transformation of records of one lane, by its kind and by whether it reached a limit.",
            ["kind", "outcome"],
            buckets=_BATCH_SECONDS,
            registry=self.registry,
        )
        self._records = Counter(
            "headwater_lane_records", "Records that transformations of lanes processed.", ["kind"],
            registry=self.registry,
        )  # fmt: skip
        self._failed = Counter(
            "headwater_lane_failures", "Errors of the courier itself, by the class of the exception.", ["error"],
            registry=self.registry,
        )  # fmt: skip
        self._lanes, self._entries, self._bytes, self._paused = (
            Gauge(f"headwater_lane{name}", text, registry=self.registry)
            for name, text in (
                ("s_waiting", "Lanes that have entries."),
                ("_backlog_entries", "Entries that wait in lanes."),
                ("_backlog_bytes", "Their size, compressed."),
                ("s_paused", "Lanes that are paused because their transformation keeps reaching a limit."),
            )
        )
        self._deliveries = _DeliveryMetrics(self.registry)

    def lane_run(self, kind: str, outcome: str, seconds: float, records: int) -> None:
        self._run_seconds.labels(kind, outcome).observe(seconds)
        self._records.labels(kind).inc(records)

    def batch_failed(self, error: str) -> None:
        self._failed.labels(error).inc()

    def deliveries_ended(self, destination: int, pipeline: int, end: DeliveryEnd, events: int) -> None:
        self._deliveries.ended(destination, pipeline, end, events)

    def delivered_after(self, destination: int, seconds: Iterable[float]) -> None:
        self._deliveries.delivered_after(destination, seconds)

    def delivery_requested(self, destination: int, response: ResponseClass, seconds: float, events: int) -> None:
        self._deliveries.requested(destination, response, seconds, events)

    def delivery_delayed(self, destination: int, seconds: float) -> None:
        self._deliveries.delayed(destination, seconds)

    def delivery_halved(self, destination: int) -> None:
        self._deliveries.halved(destination)

    def deliveries_repeated(self, destination: int, events: int) -> None:
        self._deliveries.repeated(destination, events)

    def destination_status(self, destination: int, status: DestinationStatus) -> None:
        self._deliveries.set_status(destination, status)

    def destinations_present(self, destinations: Collection[int]) -> None:
        self._deliveries.keep(destinations)

    def lanes_waiting(self, *, lanes: int, entries: int, bytes: int, paused: int) -> None:
        self._lanes.set(lanes)
        self._entries.set(entries)
        self._bytes.set(bytes)
        self._paused.set(paused)


class SchedulerMetrics(Metrics):
    """Metrics of a scheduler."""

    def __init__(self) -> None:
        self.registry = _registry()
        self.measured = Gauge(
            "headwater_runs", "Runs of all machines that have not ended.", ["status"], registry=self.registry
        )
        self._present = Gauge("headwater_run_processes", "Run processes of this machine.", registry=self.registry)
        self._started, self._failed = (
            Counter(f"headwater_run_processes_{name}", text, ["kind"], registry=self.registry)
            for name, text in (
                ("started", "Processes that were started for runs."),
                ("failed", "Run processes that ended unexpectedly."),
            )
        )
        self._ended = Counter(
            "headwater_runs_ended", "Runs that ended, by how they ended.", ["kind", "outcome"], registry=self.registry
        )
        self._seconds = Histogram(
            "headwater_run_duration_seconds",
            "Time from the start of a run to its end.",
            ["kind"],
            buckets=_RUN_SECONDS,
            registry=self.registry,
        )

    def run_process_started(self, kind: RunKind) -> None:
        self._started.labels(kind).inc()

    def run_process_failed(self, kind: RunKind) -> None:
        self._failed.labels(kind).inc()

    def run_ended(self, kind: RunKind, end: RunEnd, seconds: float | None) -> None:
        self._ended.labels(kind, end).inc()
        if seconds is not None:
            self._seconds.labels(kind).observe(seconds)

    def run_processes_present(self, processes: int) -> None:
        self._present.set(processes)


class _DeliveryMetrics:
    """Metrics of the deliveries to each destination.

    A destination is a label. The first `MAX_LABELLED_DESTINATIONS` have their own; further ones share "other", and
    their gauges are left out. So are their pipelines, of which each has `MAX_LABELLED_PIPELINES`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._pipelines: dict[int, set[int]] = {}
        """The labelled pipelines by labelled destination."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"headwater_delivery_{name}", text, ["destination", *labels], registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"headwater_delivery_{name}", text, ["destination"], buckets=buckets, registry=registry)

        self._events = counter("events", "Deliveries that ended, by how they ended.", "pipeline", "outcome")
        self._requests = counter("requests", "Requests, by the class of the response.", "status_class")
        self._halvings = counter("halvings", "Batches that were refused and divided.")
        self._repeated = counter("duplicates_possible", "Events that were sent again after a restart.")
        self._rate_wait = counter("rate_wait_seconds", "Time that requests waited for a rate limit.")
        self._seconds = histogram("seconds", "Time from the acceptance of an event to its delivery.", _DELIVERY_SECONDS)
        self._request_seconds = histogram("request_seconds", "Duration of a request.", _CALL_SECONDS)
        self._batch_events = histogram("batch_events", "Events in a request.", _GROUP_ENTRIES)
        self._gauges = {
            name: Gauge(f"headwater_delivery_{name}", text, ["destination"], registry=registry)
            for name, text in (
                ("open_events", "Deliveries that wait."),
                ("open_bytes", "Size of the queue."),
                ("oldest_open_seconds", "Age of the oldest delivery that waits."),
                ("dead_letters", "Dead letters."),
                ("dead_bytes", "Size of the dead letters."),
                ("concurrency", "Requests that may be in progress."),
                ("in_progress", "Requests in progress."),
                ("blocked_keys", "Users whose deliveries wait for one that is retried."),
                ("paused", "1 while nothing is sent because the destination fails."),
            )
        }
        self._metrics: tuple[MetricWrapperBase, ...] = (
            self._events, self._requests, self._halvings, self._repeated, self._rate_wait, self._seconds,
            self._request_seconds, self._batch_events, *self._gauges.values(),
        )  # fmt: skip

    def ended(self, destination: int, pipeline: int, end: DeliveryEnd, events: int) -> None:
        label = self._label(destination)
        pipelines = self._pipelines.get(destination)
        if pipelines is not None and len(pipelines) < MAX_LABELLED_PIPELINES:
            pipelines.add(pipeline)
        is_labelled = pipelines is not None and pipeline in pipelines
        self._events.labels(label, str(pipeline) if is_labelled else OTHER, end).inc(events)

    def delivered_after(self, destination: int, seconds: Iterable[float]) -> None:
        histogram = self._seconds.labels(self._label(destination))
        for each in seconds:
            histogram.observe(each)

    def requested(self, destination: int, response: ResponseClass, seconds: float, events: int) -> None:
        label = self._label(destination)
        self._requests.labels(label, response).inc()
        self._request_seconds.labels(label).observe(seconds)
        self._batch_events.labels(label).observe(events)

    def delayed(self, destination: int, seconds: float) -> None:
        self._rate_wait.labels(self._label(destination)).inc(seconds)

    def halved(self, destination: int) -> None:
        self._halvings.labels(self._label(destination)).inc()

    def repeated(self, destination: int, events: int) -> None:
        self._repeated.labels(self._label(destination)).inc(events)

    def set_status(self, destination: int, status: DestinationStatus) -> None:
        label = self._label(destination)
        if label != OTHER:
            for name, gauge in self._gauges.items():
                gauge.labels(label).set(getattr(status, name))

    def keep(self, destinations: Collection[int]) -> None:
        """Remove the samples of other destinations."""
        present = set(destinations)
        for destination in self._pipelines.keys() - present:
            del self._pipelines[destination]
            for metric in self._metrics:
                metric.remove_by_labels({"destination": str(destination)})

    def _label(self, destination: int) -> str:
        if destination not in self._pipelines:
            if len(self._pipelines) >= MAX_LABELLED_DESTINATIONS:
                return OTHER
            self._pipelines[destination] = set()
        return str(destination)


@asynccontextmanager
async def serve_metrics(metrics: Counted, socket: Path, measure: Measure | None = None) -> AsyncIterator[Counted]:
    """Serve the metrics at `socket` until the end of the block. Every scrape calls `measure`, for the backlog of a
    worker and the runs of a scheduler."""

    async def text() -> bytes:
        if measure is not None and isinstance(metrics, WorkerMetrics | SchedulerMetrics):
            await _measure(metrics.measured, measure)
        return generate_latest(metrics.registry)

    server = await asyncio.start_unix_server(handler(text), socket)
    try:
        yield metrics
    finally:
        server.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(server.wait_closed(), 1)


async def _measure(gauge: Gauge, measure: Measure) -> None:
    """Set the values of a gauge. Without a measurement there is no sample."""
    gauge.clear()  # consumers can be forgotten
    try:
        found = await asyncio.wait_for(measure(), MEASURE_TIMEOUT_SECONDS)
    except Exception as error:  # an unavailable database must not hide the other metrics
        _log.warning("a metric cannot be measured", reason=type(error).__name__)
        return
    for label, value in found.items():
        gauge.labels(label).set(value)


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    return registry
