"""Replays one run: `SEED=1 .venv/bin/python -m tests.delivery.simulation`, with `PLAN` for a smaller plan."""

import sys

from tests.delivery.simulation.failing import replay

if __name__ == "__main__":
    sys.exit(None if (finding := replay()) is None else str(finding))
