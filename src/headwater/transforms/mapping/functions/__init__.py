"""The 18 functions that expressions may call, each checked and compiled at its call."""

from typing import Final

from headwater.transforms.mapping.evaluation import Function
from headwater.transforms.mapping.functions import logic, strings, structures

FUNCTIONS: Final[dict[str, Function]] = {**logic.FUNCTIONS, **strings.FUNCTIONS, **structures.FUNCTIONS}
"""All functions by name."""
