"""`headwater version`."""

import argparse
import json
import platform
from collections.abc import Mapping
from importlib.metadata import version


def run(environ: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Print the version of Headwater, and as JSON also that of Python."""
    if arguments.json:
        print(json.dumps({"version": version("headwater"), "python": platform.python_version()}))
    else:
        print(f"headwater {version('headwater')}")
