"""Limits that mappings and functions share."""

from typing import Final

MAX_RESULT_BYTES: Final = 1 << 20
"""Size of the result of one record, as JSON in UTF-8. A record with a larger result fails; others are not affected."""
