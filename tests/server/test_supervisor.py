"""`headwater serve` as processes: starting, stopping, dying."""

import json
import os
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from headwater.server.preflight import run_dir
from headwater.server.settings import MAX_SOCKET_PATH_BYTES, read
from tests.system import (
    HEADWATER,
    HTTP,
    RunningSystem,
    children,
    command_line,
    fork_server,
    free_port,
    is_healthy,
    serve,
    start,
    wait_until,
)

CHOSEN_KEY: Final = "api_chosen-by-the-operator-0123456789-abcd"
RESTARTED: Final = "a process ended and will be restarted"
Start = Callable[..., RunningSystem]


@pytest.fixture
def starting(tmp_path: Path) -> Iterator[Start]:
    """Starts systems over one data directory, with `command=True` from the command line, and ends those that a test
    has left running."""
    started: list[RunningSystem] = []

    def start_one(port: int | None = None, *, command: bool = False, **variables: str) -> RunningSystem:
        headwater = HEADWATER if command else None
        started.append(start(tmp_path / "data", port, headwater=headwater, **variables))
        return started[-1]

    yield start_one
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def _is_alive(pid: int) -> bool:
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


def _failure(output: Path, data_dir: Path, port: int, **variables: str) -> str:
    """Return the last line of a start that fails; its output is kept in the folder `output`."""
    process = serve(output, port, **{"HEADWATER_DATA_DIR": str(data_dir), **variables})
    assert process.wait(60) == 1
    written = (output / "stderr.txt").read_text()
    assert "Traceback" not in written
    return written.splitlines()[-1]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """Start one system for the tests after which all of its processes run."""
    running = start(tmp_path_factory.mktemp("supervisor") / "data")
    yield running
    assert running.stop() == 0, running.errors


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSystem]:
    """Start one system for the tests of settings that its start reads."""
    running = start(
        tmp_path_factory.mktemp("configured") / "data",
        HEADWATER_API_KEY=CHOSEN_KEY,
        HEADWATER_BACKEND="4",
        HEADWATER_IDLE_TIMEOUT="1h",
        HEADWATER_LOG_FORMAT="json",
        HEADWATER_MAX_CLIENT_CONNECTIONS="20",
        HEADWATER_WORKERS="1",
        HEADWATER_XYZZY="hunter2",
    )
    yield running
    assert running.stop() == 0, running.errors


def _warnings(running: RunningSystem, event: str) -> list[dict[str, str | None]]:
    """Return the warnings of this name that its start logged."""
    lines = [json.loads(line) for line in running.errors.splitlines()]
    return [line for line in lines if line["event"] == event and line["level"] == "warning"]


def test_the_first_start_shows_the_key_and_later_starts_only_its_place(starting: Start) -> None:
    first = starting(command=True)
    assert f"Headwater is ready on {first.base_url}" in first.output
    assert first.api_key in first.output
    key_path = first.data_dir / "api-key"
    assert stat.S_IMODE(key_path.stat().st_mode) == 0o600
    _stop_while_a_request_is_sent(first, signal.SIGTERM)

    second = starting(command=True)
    assert first.api_key not in second.output
    assert str(key_path) in second.output
    assert second.api_key == first.api_key
    _stop_while_a_request_is_sent(second, signal.SIGINT)


def _stop_while_a_request_is_sent(running: RunningSystem, number: signal.Signals) -> None:
    """Stop it by a signal, and assert that it completes a request that has begun and then exits with status 0."""
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(b"POST /v1/track HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{")
        assert is_healthy(running.base_url)  # so Envoy has taken the other connection as well
        running.process.send_signal(number)
        wait_until(lambda: not is_healthy(running.base_url), 60)
        assert running.process.poll() is None, "it waits for the request that has begun"
        client.sendall(b"}")
        client.settimeout(60)
        assert client.recv(4096).startswith(b"HTTP/1.1 ")
    assert running.process.wait(60) == 0


def test_a_killed_supervisor_leaves_nothing_running_and_the_next_start_works(starting: Start) -> None:
    first = starting(command=True)
    living = first.children()
    assert set(living) == {"backend", "worker", "courier", "scheduler", "envoy"}
    forks = fork_server(first.process.pid)
    assert forks is not None
    living["fork server"] = forks
    first.process.kill()
    first.process.wait()
    wait_until(lambda: not any(map(_is_alive, living.values())), 60)
    second = starting(first.port)
    assert second.api_key == first.api_key
    _stop_while_a_request_is_sent(second, signal.SIGHUP)


def test_a_second_signal_ends_it_immediately(starting: Start) -> None:
    running = starting()
    living = running.children()
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        client.sendall(b"POST /v1/track HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{")
        assert is_healthy(running.base_url)
        running.process.send_signal(signal.SIGINT)
        wait_until(lambda: not is_healthy(running.base_url), 60)
        running.process.send_signal(signal.SIGINT)
        running.process.wait(5)  # while the request that has begun would be waited for longer
    assert not any(map(_is_alive, living.values()))


@pytest.mark.parametrize("name", ["backend", "worker", "courier", "scheduler", "envoy"])
def test_a_child_that_dies_is_started_again(shared: RunningSystem, name: str) -> None:
    before, restarts = shared.children(), shared.errors.count(RESTARTED)
    os.kill(before[name], signal.SIGKILL)
    wait_until(lambda: shared.children().get(name) not in (None, before[name]), 60)
    wait_until(lambda: is_healthy(shared.base_url), 60)
    assert shared.errors.count(RESTARTED) == restarts + 1
    after = shared.children()
    assert {other: pid for other, pid in after.items() if other != name} == {
        other: pid for other, pid in before.items() if other != name
    }


def test_processes_continue_without_the_fork_server_and_the_next_one_forks_their_successors(starting: Start) -> None:
    running = starting(command=True)
    before, forks = running.children(), fork_server(running.process.pid)
    assert forks is not None
    os.kill(forks, signal.SIGKILL)
    os.kill(before["worker"], signal.SIGKILL)
    wait_until(lambda: running.children().get("worker") not in (None, before["worker"]), 60)
    assert fork_server(running.process.pid) not in (None, forks)
    after = running.children()
    assert after | {"worker": 0} == before | {"worker": 0}
    assert command_line(after["worker"]) == [sys.executable, "-m", "headwater.server.worker"]
    assert '"child": "fork server"' in running.errors
    assert running.stop() == 0


def test_without_its_backend_it_answers_503_with_the_seconds_to_wait(shared: RunningSystem) -> None:
    os.kill(shared.children()["backend"], signal.SIGKILL)
    response = HTTP.get(f"{shared.base_url}/v1/connections", headers=shared.authorization)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json()["error"]["code"] == "ServiceUnavailable"
    wait_until(lambda: is_healthy(shared.base_url), 60)


def test_no_other_user_can_read_what_is_kept(shared: RunningSystem) -> None:
    for path in shared.data_dir.rglob("*"):
        if path.name not in ("stdout.txt", "stderr.txt"):
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_a_data_directory_in_use_is_one_line_that_names_the_process(shared: RunningSystem, tmp_path: Path) -> None:
    line = _failure(tmp_path, shared.data_dir, free_port())
    assert f"in use by another running server (process {shared.process.pid})" in line
    assert is_healthy(shared.base_url)


def test_a_key_that_the_operator_chose_is_not_shown(configured: RunningSystem) -> None:
    assert CHOSEN_KEY not in configured.output + configured.errors


def test_a_variable_that_is_no_setting_is_a_warning(configured: RunningSystem) -> None:
    warnings = _warnings(configured, "an environment variable is not a setting")
    assert [(line["variable"], line["did_you_mean"]) for line in warnings] == [
        ("HEADWATER_BACKEND", "HEADWATER_BACKENDS"),
        ("HEADWATER_XYZZY", None),
    ]
    assert "hunter2" not in configured.errors


def test_a_setting_under_its_earlier_name_is_a_warning(configured: RunningSystem) -> None:
    warnings = _warnings(configured, "an environment variable has an earlier name")
    assert [(line["variable"], line["use"]) for line in warnings] == [("HEADWATER_WORKERS", "HEADWATER_BACKENDS")]


def test_idle_connections_are_closed_early_near_the_limit(configured: RunningSystem) -> None:
    idle = [socket.create_connection(("127.0.0.1", configured.port)) for _ in range(30)]
    assert not is_healthy(configured.base_url)
    wait_until(lambda: is_healthy(configured.base_url), 30)
    for connection in idle:
        connection.close()


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = _failure(tmp_path, tmp_path / "data", port)
    assert line.startswith(f"headwater: port {port} on 127.0.0.1 is taken by another program")
    assert "HEADWATER_PORT" in line


def test_a_data_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    line = _failure(tmp_path, path, free_port())
    assert line == f"headwater: the data directory {path} is not a directory; change HEADWATER_DATA_DIR"


def test_a_data_directory_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    line = _failure(tmp_path, Path("/proc/headwater"), free_port())
    assert line.startswith("headwater: the data directory /proc/headwater cannot be used (")


def test_a_run_directory_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run").touch()
    line = _failure(tmp_path, tmp_path, free_port())
    assert line == f"headwater: the directory {tmp_path / 'run'} cannot be used (File exists)"


def test_a_wrong_setting_is_one_line(tmp_path: Path) -> None:
    assert _failure(tmp_path, tmp_path / "data", 1, HEADWATER_PORT="x").startswith(
        "headwater: HEADWATER_PORT must be a number"
    )


def test_a_child_that_cannot_start_is_one_line_with_its_last_words(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    (data_dir / "run" / "backend.sock").mkdir(parents=True)  # the socket cannot be opened there
    line = _failure(tmp_path, data_dir, free_port())
    assert line.startswith("headwater: backend ended with status 1 before the system was ready: ")


def test_it_stops_while_it_is_still_starting(tmp_path: Path) -> None:
    process = serve(tmp_path / "data", free_port(), headwater=HEADWATER)
    wait_until(lambda: bool(children(process.pid)), 60)
    process.terminate()
    assert process.wait(60) == 0


def test_nobody_has_to_read_what_it_prints(tmp_path: Path) -> None:
    port = free_port()
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "HEADWATER_DATA_DIR": str(tmp_path / "data"), "HEADWATER_PORT": str(port)}
    command = [sys.executable, "-m", "headwater.cli", "serve", "--log-level", "debug"]
    process = subprocess.Popen(command, env=environment, stdout=writer, stderr=writer)
    os.close(writer)
    wait_until(lambda: is_healthy(f"http://127.0.0.1:{port}"), 60)
    for _ in range(400):  # access logs, more than a pipe holds
        HTTP.get(f"http://127.0.0.1:{port}/healthz")
    assert process.poll() is None
    process.terminate()
    process.wait(60)


def test_sockets_move_when_the_data_directory_has_a_long_path(tmp_path: Path) -> None:
    settings = read({"HEADWATER_DATA_DIR": str(tmp_path / ("d" * MAX_SOCKET_PATH_BYTES))})
    with run_dir(settings) as moved:
        assert len(os.fsencode(moved.backend_socket("backend"))) <= MAX_SOCKET_PATH_BYTES
        assert stat.S_IMODE(moved.run_dir.stat().st_mode) == 0o700
        assert moved.data_dir == settings.data_dir
    assert not moved.run_dir.exists()
