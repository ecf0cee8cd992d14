"""The metrics interface, shared by all packages.

`Metrics` discards every measurement; tests use it. `headwater.server.metrics` has the implementation for Prometheus.
Calls must be cheap and must not raise.
"""

from collections.abc import Collection, Iterable
from typing import Final, Literal

from msgspec import Struct

from headwater.base.steps import StepCounts

DeliveryEnd = Literal["Delivered", "Rejected", "Failed", "Expired", "Dropped"]
"""The end of a delivery. Rejected: it could not be prepared. Failed: the destination refused it. Expired: its time has
passed. Dropped: the queue had no space."""

RunKind = Literal["Import", "Export"]
RunEnd = Literal["Succeeded", "Failed", "Cancelled", "Skipped"]
"""The end of a run. Skipped: it was due, and could not start."""

ResponseClass = Literal["2xx", "3xx", "4xx", "429", "5xx", "Timeout", "Error"]
"""The kind of a destination's response. Error: there was none, and it was no timeout."""


class DestinationStatus(Struct, frozen=True):
    """The present state of the deliveries to one destination."""

    open_events: int = 0
    """Number of deliveries that wait."""
    open_bytes: int = 0
    """Size of the queue."""
    oldest_open_seconds: float = 0.0
    """Age of the oldest delivery that waits; 0 if none does."""
    dead_letters: int = 0
    """Number of dead letters."""
    dead_bytes: int = 0
    """Size of the dead letters."""
    concurrency: int = 0
    """Number of requests that may be in progress."""
    in_progress: int = 0
    """Number of requests in progress."""
    blocked_keys: int = 0
    """Number of users whose deliveries wait for one that is retried."""
    paused: bool = False
    """True while nothing is sent, because the destination fails."""


class Metrics:
    """Measurements of one process. Every text is one of a small, fixed set, never a value from a request.

    Numbers of destinations and pipelines are identifiers of the installation, whose number is bounded.
    """

    def rpc_handled(self, method: str, status: str, seconds: float) -> None:
        """An RPC ended. `method` is "/package.Service/Method", `status` a gRPC status ("OK")."""

    def events_accepted(self, protocol: str, events: int) -> None:
        """Events of one call became durable."""

    def events_rejected(self, protocol: str, code: str, events: int) -> None:
        """Events of one call were rejected with this error code; a call rejected as a whole counts as one event."""

    def log_committed(self, entries: int, seconds: float) -> None:
        """One commit made a group of log entries durable."""

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
        """One transaction stored a batch of the log. `suppressed` events were dropped, because the person is erased."""

    def batch_failed(self, error: str) -> None:
        """A batch failed for a reason other than an outage. `error` is the class of the exception."""

    def events_isolated(self, events: int) -> None:
        """Events that made a batch fail were isolated: stored without their effects, or kept as rejected."""

    def identities_resolved(self, identities: int, *, postponed: int) -> None:
        """Changed identities were resolved, and others postponed: stored as unresolved. Those of a transaction that is
        rolled back count, too."""

    def profiles_failed(self, error: str) -> None:
        """Changed identities of one workspace could not be resolved. `error` is the class of the exception."""

    def janitor_failed(self, error: str) -> None:
        """A round of the janitor failed. `error` is the class of the exception."""

    def lane_results_applied(self, seconds: float, entries: int) -> None:
        """One transaction applied the results of lane entries."""

    def lane_run(self, kind: str, outcome: str, seconds: float, records: int) -> None:
        """The courier ran a transformation on records of a lane. `kind` is "Mapping", "JavaScript" or "Python";
        `outcome` is "Done" or "Limit"."""

    def deliveries_ended(self, destination: int, pipeline: int, end: DeliveryEnd, events: int) -> None:
        """Deliveries of one pipeline ended in the same way."""

    def delivered_after(self, destination: int, seconds: Iterable[float]) -> None:
        """Events were delivered so long after they were accepted."""

    def delivery_requested(self, destination: int, response: ResponseClass, seconds: float, events: int) -> None:
        """A request to a destination ended. `seconds` is its duration."""

    def delivery_delayed(self, destination: int, seconds: float) -> None:
        """A request waited so long for the rate limit of its destination."""

    def delivery_halved(self, destination: int) -> None:
        """A batch that the destination refused was divided."""

    def deliveries_repeated(self, destination: int, events: int) -> None:
        """Events were sent again after a restart, and the destination may have them already."""

    def destination_status(self, destination: int, status: DestinationStatus) -> None:
        """Set the present state of the deliveries to a destination."""

    def destinations_present(self, destinations: Collection[int]) -> None:
        """Forget the measurements of other destinations, which were deleted."""

    def lanes_waiting(self, *, lanes: int, entries: int, bytes: int, paused: int) -> None:
        """Set the amount of work that waits in lanes."""

    def run_process_started(self, kind: RunKind) -> None:
        """A process was started for a run."""

    def run_process_failed(self, kind: RunKind) -> None:
        """The process of a run ended unexpectedly."""

    def run_ended(self, kind: RunKind, end: RunEnd, seconds: float | None) -> None:
        """A run ended. `seconds` is the time since its first process was started; None without one."""

    def run_processes_present(self, processes: int) -> None:
        """Set the number of run processes of this machine."""


NO_METRICS: Final = Metrics()
"""Discards all measurements."""
