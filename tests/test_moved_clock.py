"""No test depends on the date: tests with a fixed time and a clock pass on other days too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CLOCK_FOLDER

ROOT = Path(__file__).parents[1]
SENSITIVE = [
    "tests/processing/test_outage.py",
    "tests/processing/test_stream.py",
    "tests/state/deduplication/test_stores.py",
    "tests/state/test_rejections.py",
]
"""Files with fixed times of receipt, and components that trim or compare by a clock. Tests with NATS are left out,
because NATS uses the time of the machine."""


CHOSEN = "(outage or stores or rejections or once or killed or housekeeping) and not postgresql"
"""The tests of these files that trim or repeat: the others take time and read no clock. The server of PostgreSQL, like
NATS, has the time of the machine."""


@pytest.mark.process
@pytest.mark.timeout(300)
def test_tests_pass_on_another_day() -> None:
    """Data is kept for at most 400 days. `TEST_CLOCK_DAYS=10 make test` runs everything on another day."""
    options = ["-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", "-k", CHOSEN]
    command = [sys.executable, "-m", "pytest", *options, *SENSITIVE]
    result = subprocess.run(command, cwd=ROOT, env=moved(400), capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.process
def test_a_child_process_has_the_moved_clock() -> None:
    program = """
from datetime import UTC, datetime
from headwater.base.clock import SystemClock
print((SystemClock().now() - datetime.now(UTC)).total_seconds() / 86_400)
"""
    environment = {**moved(400), "PYTHONPATH": str(CLOCK_FOLDER)}
    output = subprocess.run([sys.executable, "-c", program], env=environment, check=True, capture_output=True)
    assert float(output.stdout) == pytest.approx(400)


def moved(days: int) -> dict[str, str]:
    return {**os.environ, "TEST_CLOCK_DAYS": str(days), "PYTEST_ADDOPTS": ""}
