"""What rooms tell about their work, for whoever counts it. They state facts and know nothing of how they are counted.

`Metrics` itself forgets everything: it is what parts are given where nobody counts, such as in tests. The one that
counts is `headwater.server.metrics`. Calls must be cheap, and must not raise.
"""

from typing import Final


class Metrics:
    """Facts about the work of one process. Every text is one of a small, fixed set, never what a caller sent."""

    def call_answered(self, method: str, status: str, seconds: float) -> None:
        """An RPC came to an end; `method` is "/package.Service/Method", `status` a gRPC status ("OK")."""

    def events_accepted(self, protocol: str, events: int) -> None:
        """Events of one call are durable."""

    def events_rejected(self, protocol: str, code: str, events: int) -> None:
        """Events of one call, or the call as a whole (as one), were refused with an error's code."""

    def log_committed(self, frames: int, seconds: float) -> None:
        """A group of frames was made durable by one commit."""

    def batch_carried(self, seconds: float, *, stored: int, duplicates: int, rejected: int, identities: int) -> None:
        """A batch of the log was carried into the warehouse, in one transaction."""

    def batch_failed(self, error: str) -> None:
        """A batch failed for another reason than an outage; `error` is the class of the exception."""

    def events_isolated(self, events: int) -> None:
        """Events that made a batch fail were isolated: stored without their effects, or kept as rejected."""

    def lane_results_applied(self, seconds: float, entries: int) -> None:
        """Results of lane entries were applied, in one transaction."""

    def lane_run(self, kind: str, outcome: str, seconds: float, records: int) -> None:
        """The courier ran a transformation on records of a lane; `kind` is "Mapping", "JavaScript" or "Python", and
        `outcome` is "Done" or "Limit"."""

    def lanes_waiting(self, *, lanes: int, entries: int, bytes: int, paused: int) -> None:
        """How much waits in lanes now."""


NO_METRICS: Final = Metrics()
"""For parts whose work nobody counts."""
