"""Calls of unknown callers: reports them in the log, and limits how many are stored."""

from collections import Counter
from typing import Final

import structlog

from headwater.base.clock import Clock
from headwater.base.errors import HeadwaterError
from headwater.intake.authentication import UnknownWriteKey

MAX_STORED_PER_SECOND: Final = 10
"""Rejected calls of unknown callers that are stored per second, so that callers without a key cannot fill the disk."""
REPORT_INTERVAL_SECONDS: Final = 60
"""Minimum time between two log lines."""
PREFIX_LENGTH: Final = 4
"""Characters of a key that the log shows. The text may be a secret of another system."""
MAX_PREFIXES: Final = 10
"""Prefixes in one log line."""

_log = structlog.get_logger(__name__)


class UnknownKeys:
    """Counts the calls of unknown callers in one process."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = 0
        self._stored = 0
        self._reported: float | None = None
        self._calls = 0
        self._prefixes: Counter[str] = Counter()

    def add(self, error: HeadwaterError) -> bool:
        """Count a call that was rejected with this error. Return whether the call may be stored.

        The first call is reported in the log immediately, later calls together and at most once a minute.
        """
        now = self._clock.now().timestamp()
        self._calls += 1
        if isinstance(error, UnknownWriteKey):
            prefix = _prefix(error.key)
            if prefix in self._prefixes or len(self._prefixes) < MAX_PREFIXES:
                self._prefixes[prefix] += 1
        if self._reported is None or not 0 <= now - self._reported < REPORT_INTERVAL_SECONDS:
            _log.warning(
                "calls with an unknown write key",
                count=self._calls,
                keys=dict(self._prefixes),
                last_reason=error.message,
            )
            self._reported, self._calls = now, 0
            self._prefixes.clear()
        if int(now) != self._second:
            self._second, self._stored = int(now), 0
        self._stored += 1
        return self._stored <= MAX_STORED_PER_SECOND


def _prefix(key: str) -> str:
    """Return the first characters of a key, printable: `abcd…`."""
    shown = "".join(each if each.isascii() and each.isprintable() else "?" for each in key[:PREFIX_LENGTH])
    return f"{shown}…"
