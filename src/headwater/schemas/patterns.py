"""Regular expressions of RE2: matching takes time linear in the text, for every expression."""

from functools import lru_cache
from typing import Final, Protocol

import re2  # type: ignore[import-untyped]  # carries no types

from headwater.schemas.errors import InvalidType

MAX_PATTERN_LENGTH: Final = 10_000
"""In code points. RE2 also rejects expressions that need more than 8 MiB."""

_OPTIONS: Final = re2.Options()
_OPTIONS.log_errors = False  # it would print to standard error


class Pattern(Protocol):
    """The part of a compiled expression that this project uses."""

    def search(self, text: str, /) -> object | None:
        """Return a match if the expression occurs anywhere in the text, otherwise None."""


@lru_cache(maxsize=1024)
def compile_pattern(pattern: str) -> Pattern:
    """Compile the expression. Raises InvalidType if RE2 does not support it, or if it is too large."""
    if len(pattern) > MAX_PATTERN_LENGTH:
        raise InvalidType(f"must have at most {MAX_PATTERN_LENGTH} characters", "pattern")
    try:
        compiled: Pattern = re2.compile(pattern, _OPTIONS)
    except re2.error as error:
        reason = error.args[0]
        text = reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)
        raise InvalidType(f"must be a regular expression of RE2: {text}", "pattern") from error
    return compiled
