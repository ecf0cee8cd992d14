"""Fixtures of the tests of commands."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.running import Shell


@pytest.fixture(autouse=True)
def _mode_of_files() -> Iterator[None]:
    """Undo the change of commands that let only the user read their files."""
    mode = os.umask(0o022)
    os.umask(mode)
    yield
    os.umask(mode)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    """Return a terminal whose data directory does not exist."""
    for name in [*os.environ]:
        if name.startswith("HEADWATER_") or name == "DATABASE_URL":
            monkeypatch.delenv(name)
    monkeypatch.setenv("HEADWATER_DATA_DIR", str(tmp_path / "data"))
    return Shell(monkeypatch, capsys)
