"""The number of generated examples of a test, which `make test-unit` limits."""

from typing import Final

import hypothesis

FULL: Final = 100
"""Number of examples of the default profile. A profile with fewer limits every test."""


def examples(count: int) -> int:
    """Return `count`, or the number of the profile if it is a quick one."""
    limit = hypothesis.settings().max_examples
    return count if limit >= FULL else min(count, limit)
