"""Reads a log file without opening it as a log: the number of entries that wait."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final
from urllib.parse import quote

from headwater.base.errors import UnusableDatabase

_UNPROCESSED: Final = """
SELECT count(*) FROM frames
WHERE position + events - 1 > coalesce((SELECT min(position) FROM cursors WHERE NOT may_lag), 0)
"""


def count_unprocessed(path: Path) -> int:
    """Return the number of entries that a consumer has not processed; 0 if there is no file.

    Raises UnusableDatabase if it cannot be read.
    """
    if not path.exists():
        return 0
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            return int(connection.execute(_UNPROCESSED).fetchone()[0])
    except sqlite3.Error as error:
        raise UnusableDatabase(f"{path} cannot be read: {error}") from error
