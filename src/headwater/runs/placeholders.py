"""Placeholders in the paths of written files: `${today}`, `${now}` and `${unix}`."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from headwater.base.errors import BadRequest

_PLACEHOLDER: Final = re.compile(r"\$\{([^}]*)(\}?)")
_TEXTS: Final[Mapping[str, Callable[[datetime], str]]] = {
    "today": lambda moment: moment.strftime("%Y-%m-%d"),
    "now": lambda moment: moment.strftime("%Y-%m-%d-%H-%M-%S"),
    "unix": lambda moment: str(int(moment.timestamp())),
}


def has_placeholders(path: str) -> bool:
    """Return whether the path has a placeholder, also one that is not valid."""
    return _PLACEHOLDER.search(path) is not None


def check_placeholders(path: str) -> None:
    """Check the placeholders of a path. Raises BadRequest for one that is unknown or not closed."""
    for name, end in _PLACEHOLDER.findall(path):
        if not end:
            raise BadRequest("path has a placeholder that is not closed", field="path")
        if _name(name) not in _TEXTS:
            raise BadRequest(f"path has an unknown placeholder: {name.strip()[:60]!r}", field="path")


def expand_placeholders(path: str, started_at: datetime) -> str:
    """Return the path with the time, in UTC, at which the run started. Raises BadRequest like `check_placeholders`.

    A run expands its path once and from its start, so that it writes the same file when it is resumed.
    """
    check_placeholders(path)
    moment = started_at.astimezone(UTC)
    return _PLACEHOLDER.sub(lambda found: _TEXTS[_name(found[1])](moment), path)


def _name(text: str) -> str:
    return text.strip().lower()
