"""The metrics interface, shared by all packages.

`Metrics` discards every measurement; tests use it. `headwater.server.metrics` has the implementation for Prometheus.
Calls must be cheap and must not raise.
"""

from typing import Final

from headwater.base.steps import StepCounts


class Metrics:
    """Measurements of one process. Every text is one of a small, fixed set, never a value from a request."""

    def rpc_handled(self, method: str, status: str, seconds: float) -> None:
        """An RPC ended. `method` is "/package.Service/Method", `status` a gRPC status ("OK")."""

    def events_accepted(self, protocol: str, events: int) -> None:
        """Events of one call became durable."""

    def events_rejected(self, protocol: str, code: str, events: int) -> None:
        """Events of one call were rejected with this error code; a call rejected as a whole counts as one event."""

    def log_committed(self, entries: int, seconds: float) -> None:
        """One commit made a group of log entries durable."""

    def batch_processed(
        self, seconds: float, *, stored: int, duplicates: int, rejected: int, identities: int, steps: StepCounts
    ) -> None:
        """One transaction stored a batch of the log."""

    def batch_failed(self, error: str) -> None:
        """A batch failed for a reason other than an outage. `error` is the class of the exception."""

    def events_isolated(self, events: int) -> None:
        """Events that made a batch fail were isolated: stored without their effects, or kept as rejected."""

    def janitor_failed(self, error: str) -> None:
        """A round of the janitor failed. `error` is the class of the exception."""

    def lane_results_applied(self, seconds: float, entries: int) -> None:
        """One transaction applied the results of lane entries."""

    def lane_run(self, kind: str, outcome: str, seconds: float, records: int) -> None:
        """The courier ran a transformation on records of a lane. `kind` is "Mapping", "JavaScript" or "Python";
        `outcome` is "Done" or "Limit"."""

    def lanes_waiting(self, *, lanes: int, entries: int, bytes: int, paused: int) -> None:
        """Set the amount of work that waits in lanes."""


NO_METRICS: Final = Metrics()
"""Discards all measurements."""
