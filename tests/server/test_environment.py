"""The environment variables of each process of a running system."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from headwater.server import environment
from headwater.server.processes import HEARTBEAT_VARIABLE
from headwater.server.settings import read
from tests.system import HEADWATER, HTTP, RunningSystem, child_ids, command_line, fork_server, holds, start

API_KEY: Final = "api_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
SECRETS: Final = {
    "HEADWATER_API_KEY": API_KEY,
    "HEADWATER_SECRET_KEY": "the secret key of these tests: 32 characters",
    "HEADWATER_OLD_SECRET_KEYS": "an older secret key of these tests: 32 characters",
}
GIVEN: Final = {
    **SECRETS,
    "HEADWATER_DATABASE_URL": "sqlite",
    "DATABASE_URL": "postgres://user:of-an-address@database/x",
    "AWS_SECRET_ACCESS_KEY": "a key of another program",
    "PGPASSWORD": "a password of the database",
    "TZ": "UTC",
}
COMPUTING: Final = "headwater.base.computing"
FUNCTIONS: Final = {
    "JavaScript": "const transform = (user) => user",
    "Python": "def transform(user):\n    return user",
}


def names(pid: int) -> set[str]:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return {variable.partition(b"=")[0].decode() for variable in variables if variable}


def found(pid: int) -> set[str]:
    """Return the names of the variables whose values are in the memory of a process."""
    private = {name: value for name, value in GIVEN.items() if name not in ("HEADWATER_DATABASE_URL", "TZ")}
    return {name for name, value in private.items() if holds(pid, value.encode())}


@pytest.fixture
def system(tmp_path: Path) -> Iterator[RunningSystem]:
    running = start(tmp_path / "data", None, headwater=HEADWATER, **GIVEN)
    yield running
    assert running.stop() == 0, running.errors


def test_each_process_has_only_the_variables_that_it_needs(system: RunningSystem) -> None:
    schema = {"kind": "object", "properties": [{"name": "a", "type": {"kind": "string"}, "readOptional": True}]}
    for language, source in FUNCTIONS.items():
        paths = {"inPaths": ["a"], "outPaths": ["a"], "preserveJSON": False}
        body = {
            "data": {"a": "x" * 3_000},  # computed in a process of its own
            "inSchema": schema,
            "outSchema": schema,
            "transformation": {"function": {"language": language, "source": source, **paths}},
        }
        answer = HTTP.post(f"{system.base_url}/v1/transformations", json=body, headers=system.authorization)
        assert answer.status_code == 200, answer.text

    pids = system.children()
    assert set(pids) == {"backend", "worker", "courier", "scheduler", "envoy"}
    forking, forking_runs = fork_server(system.process.pid), fork_server(pids["scheduler"])
    assert forking is not None and forking_runs is not None
    # Freed memory counts: a fork has all memory of the process that forked it.
    [forking_computing] = [pid for pid in child_ids(pids["backend"]) if COMPUTING in command_line(pid)]
    [computing] = child_ids(forking_computing)
    others = {
        "fork server": forking,
        "fork server of runs": forking_runs,
        "fork server of computing": forking_computing,
        "computing": computing,
    }
    held = {name: found(pid) for name, pid in (pids | others).items() if name != "envoy"}
    assert held == {
        "backend": {*SECRETS, "PGPASSWORD"},
        "worker": {"PGPASSWORD"},
        "courier": {"HEADWATER_SECRET_KEY", "HEADWATER_OLD_SECRET_KEYS", "PGPASSWORD"},
        "scheduler": {"HEADWATER_SECRET_KEY", "HEADWATER_OLD_SECRET_KEYS", "PGPASSWORD"},
        "fork server": set(),
        "fork server of runs": {"HEADWATER_SECRET_KEY", "HEADWATER_OLD_SECRET_KEYS", "PGPASSWORD"},
        "fork server of computing": set(),
        "computing": set(),
    }
    assert "TZ" in names(pids["envoy"])
    for pid in (*pids.values(), *others.values()):  # forked processes show the variables of the fork server
        assert {name for name in names(pid) if name.startswith(("HEADWATER_", "PG"))} <= {HEARTBEAT_VARIABLE}

    sandboxes = [pid for child in pids.values() for pid in child_ids(child) if pid not in others.values()]
    assert len(sandboxes) >= len(FUNCTIONS)
    assert [names(pid) for pid in sandboxes] == [set()] * len(sandboxes)


def test_the_worker_reads_all_settings_but_the_secrets() -> None:
    settings = read({"HEADWATER_DATA_DIR": "/srv/x", "HEADWATER_PORT": "9000", **SECRETS})
    variables = environment.worker({}, settings)
    assert read(variables) == read({"HEADWATER_DATA_DIR": "/srv/x", "HEADWATER_PORT": "9000"})
    assert read(environment.backend({}, settings)) == settings
