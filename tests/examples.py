"""The number of generated examples of a test: fewer in `make test-unit`, more in `make test-long`."""

from typing import Final

import hypothesis

DEFAULT: Final = 50
"""Number of examples of the default profile, for tests that have no number of their own."""
QUICK: Final = 20
THOROUGH: Final = 500


def examples(count: int) -> int:
    """Return `count` in the default profile, at most the profile's number in a quick one, and a multiple in a thorough
    one."""
    limit = hypothesis.settings().max_examples
    return min(count, limit) if limit < DEFAULT else count * limit // DEFAULT
