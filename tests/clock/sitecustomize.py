"""Move the clock of this Python process by TEST_CLOCK_DAYS days.

Python imports a module of this name when it starts. `tests/conftest.py` puts this folder on PYTHONPATH when
TEST_CLOCK_DAYS is set, so that the processes that a test starts have the same clock. Only `SystemClock` moves, as
nothing else in `src/` reads the date. NATS and PostgreSQL keep the machine's time.
"""

import os
from contextlib import suppress
from datetime import UTC, datetime, timedelta

with suppress(ImportError):  # a program without Headwater
    from headwater.base.clock import SystemClock

    _AHEAD = timedelta(days=float(os.environ.get("TEST_CLOCK_DAYS", "0")))

    def _now(self: SystemClock) -> datetime:
        return datetime.now(UTC) + _AHEAD

    SystemClock.now = _now  # type: ignore[method-assign]
