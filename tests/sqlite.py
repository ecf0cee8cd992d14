"""SQLite files with all tables made: copied, because creating them takes most of the time of a test."""

import asyncio
import atexit
import shutil
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.state import open_state
from headwater.state.deliveries import open_delivery_store
from headwater.state.lanestore import open_lane_store
from headwater.state.operations import open_operations
from headwater.state.runs import open_runs
from headwater.storage.database import sqlite_url
from headwater.warehouse import open_warehouse


def migrated_url(path: Path) -> str:
    """Return the URL of `path`, a catalog.db, state.db, courier.db or delivery.db. Create the file with its
    tables if it is missing."""
    if not path.exists():
        shutil.copyfile(_templates() / path.name, path)
    return sqlite_url(path)


def fill(data_dir: Path) -> None:
    """Create the databases of a system in a data directory that has none."""
    if any(data_dir.glob("*.db")):
        return
    for template in _templates().iterdir():
        copied = data_dir / template.name
        shutil.copyfile(template, copied)
        copied.chmod(0o600)


def files_with(folder: Path, text: str) -> list[str]:
    """Return the files below a folder that contain the text, except those of the event log.

    Another process reads them: closing a file would release the locks that SQLite has on it in this process.
    """
    command = ["grep", "--recursive", "--text", "--fixed-strings", "--files-with-matches", "--", text, str(folder)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode in (0, 1), found.stderr
    paths = [Path(line) for line in found.stdout.splitlines()]
    return sorted(str(path.relative_to(folder)) for path in paths if not path.name.startswith("log.db"))


@cache
def _templates() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="headwater-templates-"))
    atexit.register(shutil.rmtree, folder)

    async def make() -> None:
        async with open_catalog(sqlite_url(folder / "catalog.db"), clock=SystemClock(), identifiers=Identifiers()):
            pass
        async with open_state(sqlite_url(folder / "state.db"), writes=True, clock=SystemClock()):
            pass
        async with open_warehouse(sqlite_url(folder / "warehouse.db"), writes=True, clock=SystemClock()):
            pass
        async with open_lane_store(sqlite_url(folder / "courier.db")):
            pass
        async with open_delivery_store(sqlite_url(folder / "delivery.db")):
            pass
        async with open_operations(
            sqlite_url(folder / "operations.db"), clock=SystemClock(), identifiers=Identifiers()
        ):
            pass
        async with open_runs(sqlite_url(folder / "runs.db"), clock=SystemClock(), identifiers=Identifiers()):
            pass

    with ThreadPoolExecutor(1) as thread:  # the caller may have a running event loop
        thread.submit(asyncio.run, make()).result()
    return folder
