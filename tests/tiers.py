"""Marks tests by their requirements, `process`, `e2e`, `crash`, `sdks` and `clients`, and orders them.

| marker | tests |
| --- | --- |
| `process` | start other processes; `make test-unit` leaves them out |
| `e2e` | use a running system through Envoy: `tests/e2e` |
| `crash` | kill processes or fill disks under load: `tests/e2e/crash` |
| `sdks` | run real SDKs: `tests/sdks` |
| `clients` | run the programs of docs/clients.md: `tests/clients` |

Folders, fixtures and parameters decide, so that few tests need a marker of their own. With `-m "not process"`, a test
that starts a process fails and names the marker.
"""

import sys
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, Final

import pytest

FOLDERS: Final = {
    "clients": ("clients",),
    "e2e": ("e2e", "process"),
    "e2e/crash": ("crash",),
    "sdks": ("sdks", "process"),
    "transforms/functions": ("process",),
}
"""Markers of all tests in a folder."""
FIXTURES: Final = {"mariadb_server", "nats_server", "own_server", "postgresql_server", "postgresql_system", "system"}
"""Fixtures that start a process."""
PARAMETERS: Final = {"jetstream", "nats", "postgresql"}
"""Parameters that start a process."""
SLOW_TESTS: Final = (
    "e2e/test_worst_memory.py",
    "e2e/crash",
    "e2e/test_resolution.py",
    "e2e/test_runs.py",
    "e2e/test_erasures.py",
    "e2e/test_containment.py",
    "e2e/test_schemathesis.py",
)
"""Files and folders with the tests that take longest. They run first, so that at the end no process of a parallel run
has one while the others have nothing to do."""
SHARED_SYSTEMS: Final = {"configured_system", "delivering_system", "postgresql_system", "system"}
"""Fixtures that start a system for many modules. The modules that use one run last: it lives until the end of the
tests, and takes a twelfth of a processor while it has nothing to do."""
EVENTS: Final = {"os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen"}
"""Audit events of Python that start a process."""

_ROOT: Final = Path(__file__).parent

_forbidden: list[str] = []
"""The running test, if it may not start a process."""


def pytest_configure(config: pytest.Config) -> None:
    if config.option.markexpr == "not process":
        sys.addaudithook(_forbid)


@pytest.hookimpl(tryfirst=True)  # before tests are selected by marker
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    sharing = {item.path for item in items if not SHARED_SYSTEMS.isdisjoint(_needed(item))}
    ranks = {path: find_rank(path.relative_to(_ROOT), path in sharing) for path in {item.path for item in items}}
    markers = {path: folder_markers(path.relative_to(_ROOT)) for path in ranks}
    items.sort(key=lambda item: ranks[item.path])
    for item in items:
        for name in markers[item.path]:
            item.add_marker(name)
        if _starts_processes(item):
            item.add_marker(pytest.mark.process)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    _forbidden[:] = [] if item.get_closest_marker("process") else [item.nodeid]
    try:
        return (yield)
    finally:
        _forbidden.clear()


def folder_markers(path: PurePath) -> list[str]:
    """Return the markers of a test file, whose path is relative to the tests."""
    return [name for folder, names in FOLDERS.items() if path.is_relative_to(folder) for name in names]


def find_rank(path: PurePath, shares_system: bool) -> int:
    """Return the place of a test file among the others: those with a shared system last, and among each of the two the
    longest ones first, then those with a running system."""
    is_slow = any(path.is_relative_to(longest) for longest in SLOW_TESTS)
    return 3 * shares_system + (0 if is_slow else 1 if path.is_relative_to("e2e") else 2)


def _starts_processes(item: pytest.Item) -> bool:
    needed = _needed(item)
    return not (FIXTURES.isdisjoint(needed) and PARAMETERS.isdisjoint(needed))


def _needed(item: pytest.Item) -> set[str]:
    """Return the fixtures of a test, and its parameters that are texts, which may name another fixture."""
    callspec = getattr(item, "callspec", None)
    parameters = [] if callspec is None else callspec.params.values()
    return {*getattr(item, "fixturenames", ()), *(value for value in parameters if isinstance(value, str))}


def _forbid(event: str, _arguments: tuple[Any, ...]) -> None:
    if event in EVENTS and _forbidden:
        raise RuntimeError(f"{_forbidden[0]} starts a process: mark it with pytest.mark.process")
