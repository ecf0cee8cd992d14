"""What has been carried into the warehouse, asked of its file: quick, however many events there are."""

import sqlite3
import uuid
from contextlib import closing

from tests.e2e.source import Source
from tests.system import wait_until

TIMEOUT_SECONDS = 60


def stored(source: Source) -> int:
    """How many events of the source are stored."""
    with closing(sqlite3.connect(source.system.data_dir / "state.db")) as state:
        found = state.execute("SELECT count(*) FROM events WHERE connection = ?", (source.id,))
        return int(found.fetchone()[0])


def until_carried(source: Source) -> None:
    """Send one event more, and wait until it is stored: all that was sent before has been carried then."""
    marker = f"marker {uuid.uuid4()}"
    answer = source.send("track", {"userId": "u", "event": "marker", "messageId": marker}, **{"X-Strict-Mode": "1"})
    assert answer.status_code == 200, answer.text
    wait_until(lambda: _is_stored(source, marker), TIMEOUT_SECONDS)


def _is_stored(source: Source, message_id: str) -> bool:
    pattern = f'%"messageId":"{message_id}"%'
    query = "SELECT 1 FROM events WHERE position > (SELECT max(position) - 1000 FROM events) AND document LIKE ?"
    with closing(sqlite3.connect(source.system.data_dir / "state.db")) as state:
        return state.execute(query, (pattern,)).fetchone() is not None
