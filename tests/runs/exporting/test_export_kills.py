"""An export whose process is killed again and again ends as one that is not disturbed.

HEADWATER_CRASH_ROUNDS sets the number of kills: more rounds are closer to each other.
"""

import asyncio
import os
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import pytest

from headwater.storage.database import sqlite_url
from tests.forked import run_program
from tests.runs.exporting import killed
from tests.runs.exporting.installation import open_installation
from tests.runs.exporting.killed import Points, connectors
from tests.sqlite import migrated_url

PEOPLE: Final = 12
ROUNDS: Final = int(os.environ.get("HEADWATER_CRASH_ROUNDS", "3"))
STEP: Final = max(1, 36 // ROUNDS)
"""Each attempt reaches so many points more than the one before."""


async def run(folder: Path, url: str, kind: str, fence: int, deadly: int) -> tuple[int, bytes]:
    arguments = (str(folder), url, kind, str(fence), str(deadly))
    return await asyncio.to_thread(run_program, killed.__name__, *arguments)


@pytest.mark.parametrize("kind", ["table", "storage", "app"])
async def test_a_run_that_is_killed_at_many_points(tmp_path: Path, database_url: str | None, kind: str) -> None:
    url = database_url or migrated_url(tmp_path / "state.db")
    assert database_url or url == sqlite_url(tmp_path / "state.db")
    async with open_installation(tmp_path, url, connectors(tmp_path, Points(0))) as installation:
        await installation.write_profiles(
            {number: {"email": f"{number:02d}@x", "name": f"n{number}"} for number in range(1, PEOPLE + 1)}
        )
    fence, deadly, output = 1, 3, b""
    while True:
        code, output = await run(tmp_path, url, kind, fence, deadly)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if kind == "storage":
            assert not (tmp_path / "files" / "people.csv").exists() or fence > 1
        fence, deadly = fence + 1, deadly + STEP
    assert fence > 1, "the run was killed"

    expected = [(f"{number:02d}@x", f"n{number}") for number in range(1, PEOPLE + 1)]
    passed = {step: [PEOPLE, 0] for step in ("Receive", "InputValidation", "Finalize")}
    if kind == "storage":
        assert (tmp_path / "files" / "people.csv").read_text().splitlines()[1:] == [f"{a},{b}," for a, b in expected]
    elif kind == "table":
        passed |= {step: [PEOPLE, 0] for step in ("Transformation", "OutputValidation")}
        with closing(sqlite3.connect(tmp_path / "files" / "table.db")) as database:
            assert database.execute("SELECT email, name FROM people ORDER BY email").fetchall() == expected
    else:
        passed |= {step: [PEOPLE, 0] for step in ("Transformation", "OutputValidation")}
        with closing(sqlite3.connect(tmp_path / "app.db")) as database:
            assert database.execute("SELECT email, name FROM users ORDER BY email").fetchall() == expected
            writes = database.execute("SELECT sum(writes), max(writes) FROM users").fetchone()
        assert writes[0] <= PEOPLE + 4 * (fence - 1)
    assert msgspec.json.decode(output) == passed
