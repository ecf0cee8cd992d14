"""Reports confinement that the system refused: a warning in the log, or an error if confinement is required.

Unlike the other modules of this package, this one runs in the server.
"""

from collections.abc import Sequence
from typing import Final

import structlog

from headwater.base.errors import Unavailable

_log = structlog.get_logger()

PARTS: Final = {
    "user": "an unprivileged user",
    "no_new_privs": "no new privileges",
    "files": "files (Landlock)",
    "seccomp": "system calls (seccomp)",
}
"""Descriptions of the parts of the confinement, by their names in `confinement.process.confine`."""

_reported: set[tuple[str, tuple[str, ...]]] = set()


class Report:
    """Handles refused confinement. With `required`, functions do not run. Otherwise they run, and a warning is logged
    once per process and language."""

    def __init__(self, *, required: bool) -> None:
        self.required = required

    def add(self, language: str, missing: Sequence[str]) -> None:
        """Report the parts that a sandbox of this language lacks, if any. Raises Unavailable if confinement is
        required."""
        if not missing:
            return
        parts = tuple(PARTS.get(name, name) for name in missing)
        if self.required:
            raise Unavailable(f"functions in {language} do not run: this system refuses to confine {', '.join(parts)}")
        if (language, parts) not in _reported:
            _reported.add((language, parts))
            _log.warning("a sandbox is not fully confined: the system refuses it", language=language, missing=parts)
