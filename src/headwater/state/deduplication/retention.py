"""How long messages are remembered."""

from datetime import timedelta
from typing import Final

RETENTION: Final = timedelta(days=7)
"""A message that comes again within this time is a duplicate."""
