"""Workspaces of a running system, each with its own administrator, for tests of their isolation."""

import dataclasses
import os
import subprocess
import sys
from typing import Any

from tests.system import HTTP, RunningSystem

SCHEMA: dict[str, Any] = {
    "kind": "object",
    "properties": [{"name": "email", "type": {"kind": "string", "maxLength": 200}, "readOptional": True}],
}
"""An output schema with one property, `email`."""


def add_tenant(system: RunningSystem, name: str) -> RunningSystem:
    """Make a workspace at the command line; return the system as its administrator uses it."""
    workspace = _run(system, "workspaces", "create", name).split()[0]
    key = _run(system, "keys", "create", f"{name}'s", "--workspace", workspace).split()[-1]
    tenant = dataclasses.replace(system, api_key=key)
    # The running backend reads both within a second.
    for _ in range(100):
        if HTTP.get(f"{system.base_url}/v1/workspaces/current", headers=tenant.authorization).status_code == 200:
            return tenant
    raise AssertionError("the new key is not known")


def function(language: str, source: str, **members: Any) -> dict[str, Any]:
    """The members of a pipeline whose function gets the traits and the user id, and returns `email`."""
    definition = {"language": language, "source": source, "inPaths": ["traits", "userId"], "outPaths": ["email"]}
    return {"outSchema": SCHEMA, "transformation": {"function": definition | members}}


def mapping(expressions: dict[str, str], schema: dict[str, Any] | None = None) -> dict[str, Any]:
    """The members of a pipeline with a mapping."""
    return {"outSchema": schema or SCHEMA, "transformation": {"mapping": expressions}}


def _run(system: RunningSystem, *arguments: str) -> str:
    """Run a command of `headwater` while the server runs, and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    environment |= {**system.variables, "HEADWATER_DATA_DIR": str(system.data_dir)}
    done = subprocess.run(
        [sys.executable, "-m", "headwater.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout
