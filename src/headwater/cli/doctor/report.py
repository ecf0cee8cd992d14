"""Runs the checks and prints their findings."""

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from typing import Final

from headwater.cli.api import given_url
from headwater.cli.doctor import data, machine, server, versions
from headwater.cli.doctor.findings import Check, Finding, Installation, Result, problem
from headwater.cli.errors import FAILED
from headwater.cli.tables import printable, style
from headwater.server.errors import StartupError
from headwater.server.settings import read

CHECKS: Final[tuple[Check, ...]] = (
    machine.check_python,
    machine.check_packages,
    data.check_variables,
    data.check_folder,
    data.check_secret_key,
    data.check_databases,
    versions.check_api_versions,
    data.check_postgresql,
    data.check_nats,
    data.check_moved_files,
    data.check_former_log,
    machine.check_envoy,
    machine.check_sandboxes,
    machine.check_ports,
    machine.check_open_files,
    machine.check_clock,
    server.check_server,
)
"""All checks, in the order of their findings."""
_STYLES: Final[Mapping[Result, str]] = {"ok": "green", "warning": "yellow", "problem": "red"}
_CHECK_CHARACTERS: Final = 14


def run(environ: Mapping[str, str], arguments: argparse.Namespace) -> None:
    """Print the findings of all checks while they are found. Exit with 1 if there is a problem."""
    counts: dict[Result, int] = {"ok": 0, "warning": 0, "problem": 0}
    for finding in find(environ, arguments):
        counts[finding.result] += 1
        _print(finding, is_json=arguments.json)
    if not arguments.json:
        print(f"{counts['ok']} ok, {counts['warning']} warnings, {counts['problem']} problems")
    if counts["problem"]:
        sys.exit(FAILED)


def find(environ: Mapping[str, str], arguments: argparse.Namespace) -> Iterable[Finding]:
    """Yield the findings of all checks. A setting that is not valid ends them."""
    try:
        installation = Installation(
            environ, read(environ, {"data_dir": arguments.data_dir}), given_url(environ, arguments)
        )
    except StartupError as error:
        yield problem("settings", str(error), "correct it: the server does not start with it")
        return
    for check in CHECKS:
        try:
            yield from check(installation)
        except Exception as error:
            name = str(getattr(check, "__name__", "check")).removeprefix("check_").replace("_", " ")
            yield problem(name, f"the check failed: {type(error).__name__}: {error}", "report this with the message")


def _print(finding: Finding, *, is_json: bool) -> None:
    if is_json:
        members = {
            "check": finding.check,
            "result": finding.result,
            "message": finding.message,
            "remedy": finding.remedy,
        }
        print(json.dumps(members, ensure_ascii=False), flush=True)
        return
    result = style(f"{finding.result:<7}", _STYLES[finding.result], sys.stdout)
    print(f"{result}  {finding.check:<{_CHECK_CHARACTERS}}  {printable(finding.message)}", flush=True)
    if finding.remedy:
        print(f"{'':<{7 + 2 + _CHECK_CHARACTERS + 2}}{printable(finding.remedy)}", flush=True)
