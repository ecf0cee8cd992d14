"""Workspaces of a running system, each with its own administrator, for tests of their isolation."""

import dataclasses
import os
from pathlib import Path
from typing import Any

from tests.forked import run_command
from tests.system import HTTP, RunningSystem, wait_until

SCHEMA: dict[str, Any] = {
    "kind": "object",
    "properties": [{"name": "email", "type": {"kind": "string", "maxLength": 200}, "readOptional": True}],
}
"""An output schema with one property, `email`."""


_operators: dict[Path, str] = {}
"""For each data directory, a key that makes workspaces."""


def add_tenant(system: RunningSystem, name: str) -> RunningSystem:
    """Make a workspace; return the system as its administrator uses it."""
    operator = {"authorization": f"Bearer {operator_key(system)}"}
    workspace = _post(system, "/v1/workspaces", {"name": name}, operator)["id"]
    token = _post(system, "/v1/keys", {"name": f"{name}'s", "workspace": workspace}, operator)["token"]
    return dataclasses.replace(system, api_key=token)


def operator_key(system: RunningSystem) -> str:
    """Return a key for every workspace, which only the command line makes: once for each system, as a process takes a
    second of processor time."""
    if system.data_dir not in _operators:
        key = _run(system, "keys", "create", "Operator", "--every-workspace").split()[-1]
        headers = {"authorization": f"Bearer {key}"}
        url = f"{system.base_url}/v1/workspaces"
        # The running backends, one after the other, read it within a second.
        wait_until(lambda: all(HTTP.get(url, headers=headers).status_code == 200 for _ in range(4)), 30)
        _operators[system.data_dir] = key
    return _operators[system.data_dir]


def _post(system: RunningSystem, path: str, body: dict[str, Any], headers: dict[str, str]) -> Any:
    response = HTTP.post(f"{system.base_url}{path}", json=body, headers=headers, timeout=30)
    assert response.status_code == 200, response.text
    return response.json()


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
    return run_command(*arguments, variables=environment)
