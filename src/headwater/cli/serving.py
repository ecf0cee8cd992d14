"""`headwater serve`."""

import argparse
import sys
from collections.abc import Mapping

from headwater.server.settings import read
from headwater.server.supervisor import serve


def run(environ: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Run the whole system in the foreground. Its log is text on a terminal, unless the user says otherwise."""
    log_format = "text" if sys.stderr.isatty() else "json"
    flags = {name: value for name, value in vars(arguments).items() if name not in ("command", "chosen")}
    serve(read({"HEADWATER_LOG_FORMAT": log_format, **environ}, flags))
