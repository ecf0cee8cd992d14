"""What rooms tell about their work, for whoever counts it. They state facts and know nothing of how they are counted.

`Metrics` itself forgets everything: it is what parts are given where nobody counts, such as in tests. The one that
counts is `headwater.server.metrics`. Calls must be cheap, and must not raise.
"""

from typing import Final


class Metrics:
    """Facts about the work of one process. Every text is one of a small, fixed set, never what a caller sent."""

    def call_answered(self, method: str, status: str, seconds: float) -> None:
        """An RPC came to an end; `method` is "/package.Service/Method", `status` a gRPC status ("OK")."""

    def events_accepted(self, dialect: str, events: int) -> None:
        """Events of one call are durable."""

    def events_refused(self, dialect: str, code: str, events: int) -> None:
        """Events of one call, or the call as a whole (as one), were refused with an error's code."""

    def log_committed(self, frames: int, seconds: float) -> None:
        """A group of frames was made durable by one commit."""

    def batch_carried(self, seconds: float, *, stored: int, duplicates: int, rejected: int, identities: int) -> None:
        """A batch of the log was carried into the warehouse, in one transaction."""


NO_METRICS: Final = Metrics()
"""For parts whose work nobody counts."""
