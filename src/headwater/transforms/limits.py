"""Limits that mappings and functions share."""

from typing import Final

MAX_RESULT_CHARACTERS: Final = 1 << 20
"""Maximum size of the result of one record, in characters. A record with a larger result fails; others are not
affected.

For a function it is the size of the result's JSON. For a mapping it is the sum of `mapping.sizes` over its properties.
"""
