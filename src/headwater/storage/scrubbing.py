"""Overwrites what was deleted from a SQLite file, so that its bytes are in no part of the file or its WAL.

`PRAGMA secure_delete=FAST` overwrites deleted rows inside of pages. The program `unused_bytes` overwrites free pages,
and copies that SQLite leaves in unused parts of pages when it moves rows: measured with 8,000 random keys, 232 of 1,871
pages had such copies, with `secure_delete=ON` as well. A file of 419 MB with 1.2 million rows took 6 s.
"""

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Final

import structlog
from sqlalchemy import Engine
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.base.errors import Unavailable
from headwater.storage import unused_bytes

SECURE_DELETE: Final = "PRAGMA secure_delete=FAST"
"""Set it on each connection that deletes. It overwrites deleted rows in pages that are written anyway."""
STEP_SECONDS: Final = 2.0
"""Time for which a process overwrites. It lets others write every `unused_bytes.STEP_SECONDS`."""
MAX_STEP_SECONDS: Final = 60.0
"""Time after which a process is ended: its start takes long on a busy machine."""

_log: Final = structlog.get_logger(__name__)


class Scrubber:
    """Overwrites what was deleted from one file. Other databases have nothing to do: None."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._page = 1

    async def step(self) -> bool:
        """Work for about `STEP_SECONDS`. Return whether everything is done.

        Call it again until it returns True: readers may use the WAL for longer. The next step continues at the page
        that this one has reached. Raises Unavailable if the database is busy for too long, or unusable.
        """
        if self._path is None:
            return True
        self._page = await asyncio.to_thread(_overwrite, self._path, self._page)
        if self._page:
            return False
        self._page = 1
        return True


def make_scrubber(engine: Engine | AsyncEngine) -> Scrubber:
    """Return the scrubber of an engine's file. PostgreSQL's vacuum frees the space of deleted rows by itself."""
    return Scrubber(Path(str(engine.url.database)) if engine.dialect.name == "sqlite" else None)


def _overwrite(path: Path, page: int) -> int:
    """Run a process that overwrites from a page on; return the next page, 0 after the last one."""
    program = [sys.executable, "-I", "-S", unused_bytes.__file__, str(path), str(page), str(STEP_SECONDS)]
    try:
        ended = subprocess.run(program, capture_output=True, text=True, timeout=MAX_STEP_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return page
    if ended.returncode == 0:
        return int(ended.stdout)
    reason = ended.stderr.strip()
    if ended.returncode == unused_bytes.OUTAGE:
        raise Unavailable(f"a database does not respond: {reason}")
    if ended.returncode == unused_bytes.UNSUPPORTED:
        _log.warning("copies of erased data may be left in a file", file=path.name, reason=reason)
        return 0
    if ended.returncode < 0:  # ended with the system
        return page
    raise RuntimeError(f"overwriting unused bytes of {path.name} has failed: {reason}")
