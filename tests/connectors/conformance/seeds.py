"""The seeds of runs against vendors' servers. HEADWATER_VENDOR_SEEDS sets their number."""

import os
from typing import Final

SEEDS: Final = range(2, 2 + int(os.environ.get("HEADWATER_VENDOR_SEEDS", "3")))
"""The plans of the first three seeds together have every fate, and find the planted faults."""
