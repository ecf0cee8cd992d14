"""No test depends on the date: those that join a fixed time and a clock pass on other days too."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CLOCK_FOLDER

ROOT = Path(__file__).parents[1]
SENSITIVE = [
    "tests/intake/test_intake.py",
    "tests/pipelines/test_outage.py",
    "tests/pipelines/test_stream.py",
    "tests/warehouse/ledger/test_ledgers.py",
    "tests/warehouse/test_rejections.py",
]
"""Files with fixed times of receipt beside parts that trim or compare by a clock. Tests with NATS are left out, because
NATS keeps the machine's time."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("days", [10, 400])
def test_tests_pass_on_another_day(days: int) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", *SENSITIVE]
    result = subprocess.run(command, cwd=ROOT, env=moved(days), capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr


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
