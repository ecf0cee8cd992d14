"""A start that makes progress, as in a long migration, may take as long as it needs, and one that makes none ends."""

import asyncio

import pytest

from headwater.server import supervisor
from headwater.server.errors import StartupError
from headwater.server.settings import read

TIMEOUT_SECONDS = 0.3


class Starting:
    """A service that is ready after some time."""

    def __init__(self, seconds: float, *, shows_progress: bool) -> None:
        self._until = asyncio.get_running_loop().time() + seconds
        self._shows_progress = shows_progress

    @property
    def has_started(self) -> bool:
        return asyncio.get_running_loop().time() > self._until

    @property
    def progressed_at(self) -> float:
        return asyncio.get_running_loop().time() if self._shows_progress else float("-inf")


async def announce(
    monkeypatch: pytest.MonkeyPatch, seconds: float, *, shows_progress: bool, watchdog_seconds: int = 30
) -> None:
    monkeypatch.setattr(supervisor, "READY_TIMEOUT_SECONDS", TIMEOUT_SECONDS)
    settings = read({"HEADWATER_DATA_DIR": "/nonexistent", "HEADWATER_WATCHDOG_SECONDS": str(watchdog_seconds)})
    system = supervisor._Supervisor(settings, None)
    service = Starting(seconds, shows_progress=shows_progress)

    async def is_ready() -> bool:
        return True

    for name, value in {"_backends": [service], "_services": (service,), "_is_ready": is_ready}.items():
        monkeypatch.setattr(system, name, value, raising=False)
    async with asyncio.timeout(30):
        await system._announce()
    assert system._ready.is_set()


async def test_a_start_without_progress_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StartupError, match="the system was not ready within"):
        await announce(monkeypatch, 20, shows_progress=False)


async def test_a_start_with_progress_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    await announce(monkeypatch, 4 * TIMEOUT_SECONDS, shows_progress=True)


async def test_a_start_that_nothing_watches_has_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process may be stopped in a debugger."""
    await announce(monkeypatch, 4 * TIMEOUT_SECONDS, shows_progress=False, watchdog_seconds=0)
