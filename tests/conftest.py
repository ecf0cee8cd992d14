"""Fixtures that several rooms share."""

from collections.abc import Iterator

import pytest

from tests.system import RunningSystem, start


@pytest.fixture(scope="session")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """One running system for all tests that only talk to it. Tests that stop or harm one start their own."""
    running = start(tmp_path_factory.mktemp("system") / "data")
    yield running
    assert running.stop() == 0, running.errors
