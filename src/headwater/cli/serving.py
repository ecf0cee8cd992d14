"""`headwater serve`."""

import argparse
from collections.abc import Mapping

from headwater.server.settings import read
from headwater.server.supervisor import serve


def run(environ: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Run the whole system in the foreground."""
    serve(read(environ, {name: value for name, value in vars(arguments).items() if name not in ("command", "chosen")}))
