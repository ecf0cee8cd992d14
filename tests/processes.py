"""The marker `process`, for tests that start other processes; `make test-unit` leaves them out.

Tests in these folders, and tests with these fixtures or parameters, have it without being marked. Where marked tests
are left out, a test that starts a process fails and says so.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

FOLDERS: Final = {"e2e", "sdks"}
FIXTURES: Final = {"nats_server", "own_server", "postgresql_server", "postgresql_system", "system"}
PARAMETERS: Final = {"jetstream", "postgresql"}
EVENTS: Final = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen"}
"""The audit events of Python that start a process."""

_forbidden: list[str] = []
"""The test that runs, if it may not start a process."""


def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr == "not process":
        sys.addaudithook(_refuse)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if _starts_processes(item):
            item.add_marker(pytest.mark.process)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _forbidden[:] = [] if item.get_closest_marker("process") else [item.nodeid]
    try:
        return (yield)
    finally:
        _forbidden.clear()


def _starts_processes(item: pytest.Item) -> bool:
    root = Path(__file__).parent
    callspec = getattr(item, "callspec", None)
    return (
        item.path.relative_to(root).parts[0] in FOLDERS
        or not FIXTURES.isdisjoint(getattr(item, "fixturenames", ()))
        or (callspec is not None and any(value in PARAMETERS for value in callspec.params.values() if _is_text(value)))
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _refuse(event: str, _arguments: tuple[Any, ...]) -> None:
    if event in EVENTS and _forbidden:
        raise RuntimeError(f"{_forbidden[0]} starts a process: mark it with pytest.mark.process")
