"""The environment variables of each process of a running system."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from headwater.server import environment
from headwater.server.settings import read
from tests.system import HTTP, RunningSystem, child_ids, start

API_KEY: Final = "api_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG"
SECRETS: Final = {
    "HEADWATER_API_KEY": API_KEY,
    "HEADWATER_SECRET_KEY": "the secret key of these tests: 32 characters",
    "HEADWATER_OLD_SECRET_KEYS": "an older secret key of these tests: 32 characters",
}
GIVEN: Final = {
    **SECRETS,
    "HEADWATER_DATABASE_URL": "sqlite",
    "DATABASE_URL": "postgres://user:hidden@database/x",
    "AWS_SECRET_ACCESS_KEY": "hidden",
    "PGPASSWORD": "hidden",
    "TZ": "UTC",
}
FUNCTIONS: Final = {
    "JavaScript": "const transform = (user) => user",
    "Python": "def transform(user):\n    return user",
}


def names(pid: int) -> set[str]:
    variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return {variable.partition(b"=")[0].decode() for variable in variables if variable}


@pytest.fixture
def system(tmp_path: Path) -> Iterator[RunningSystem]:
    running = start(tmp_path / "data", None, **GIVEN)
    yield running
    assert running.stop() == 0, running.errors


def test_each_process_has_only_the_variables_that_it_needs(system: RunningSystem) -> None:
    schema = {"kind": "object", "properties": [{"name": "a", "type": {"kind": "string"}, "readOptional": True}]}
    for language, source in FUNCTIONS.items():
        paths = {"inPaths": ["a"], "outPaths": ["a"], "preserveJSON": False}
        body = {
            "data": {"a": "x"},
            "inSchema": schema,
            "outSchema": schema,
            "transformation": {"function": {"language": language, "source": source, **paths}},
        }
        answer = HTTP.post(f"{system.base_url}/v1/transformations", json=body, headers=system.authorization)
        assert answer.status_code == 200, answer.text

    processes = {name: names(pid) for name, pid in system.children().items()}
    assert set(processes) == {"backend", "worker", "courier", "scheduler", "envoy"}
    assert set(SECRETS) <= processes["backend"]
    assert not set(SECRETS) & processes["worker"]
    for name in ("courier", "scheduler"):
        assert set(SECRETS) & processes[name] == {"HEADWATER_SECRET_KEY", "HEADWATER_OLD_SECRET_KEYS"}
    assert "TZ" in processes["envoy"]
    assert [name for name in processes["envoy"] if name.startswith(("HEADWATER_", "PG"))] == []
    for variables in processes.values():
        assert not {"DATABASE_URL", "AWS_SECRET_ACCESS_KEY"} & variables
    assert "PGPASSWORD" in processes["backend"] and "PGPASSWORD" in processes["worker"]

    sandboxes = [pid for child in system.children().values() for pid in child_ids(child)]
    assert len(sandboxes) >= len(FUNCTIONS)
    assert [names(pid) for pid in sandboxes] == [set()] * len(sandboxes)


def test_the_worker_reads_all_settings_but_the_secrets() -> None:
    settings = read({"HEADWATER_DATA_DIR": "/srv/x", "HEADWATER_PORT": "9000", **SECRETS})
    variables = environment.worker({}, settings)
    assert read(variables) == read({"HEADWATER_DATA_DIR": "/srv/x", "HEADWATER_PORT": "9000"})
    assert read(environment.backend({}, settings)) == settings
