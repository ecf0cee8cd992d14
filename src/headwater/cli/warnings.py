"""Warnings about variables that are no settings."""

import sys
from collections.abc import Mapping

from headwater.cli.tables import printable, style
from headwater.server.settings import renamed_variables, unknown_variables


def warn_about_variables(environ: Mapping[str, str]) -> None:
    """Print a line on standard error for each unknown HEADWATER_ variable, with the most similar setting."""
    for name, similar in unknown_variables(environ).items():
        _warn(f"{name} is not a setting" + (f"; did you mean {similar}?" if similar else ""))
    for name, present in renamed_variables(environ).items():
        _warn(f"{name} is the earlier name of {present}")


def _warn(text: str) -> None:
    print(style(f"headwater: {printable(text)}", "yellow", sys.stderr), file=sys.stderr)
