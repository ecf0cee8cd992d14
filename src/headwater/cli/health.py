"""`headwater health`."""

import argparse
from collections.abc import Mapping

from headwater.server import health
from headwater.server.errors import StartupError
from headwater.server.settings import read


def run(environ: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Print `ok` if the server of this machine serves calls. Raises StartupError with the reason if it does not."""
    if (reason := health.check(read(environ))) is not None:
        raise StartupError(reason)
    print("ok")
