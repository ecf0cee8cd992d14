"""The 18 functions that expressions may call, each checked and compiled at its call."""

from typing import Final

from headwater.transforms.mapping.functions import logic, strings, structures
from headwater.transforms.mapping.typed import Function

FUNCTIONS: Final[dict[str, Function]] = {**logic.FUNCTIONS, **strings.FUNCTIONS, **structures.FUNCTIONS}
"""All functions by name."""
