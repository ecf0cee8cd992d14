"""How long messages are remembered."""

from datetime import timedelta
from typing import Final

KEPT: Final = timedelta(days=7)
"""A message that comes again within this time is a duplicate."""
