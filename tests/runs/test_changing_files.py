"""Files and storages that change between two runs of a pipeline and during one: other columns, a refused login."""

import gc
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest

from headwater.connectors.catalogue.file_storages import FileSystemSettings, S3Settings, SftpSettings
from headwater.connectors.contract import FileStorage, StoredFile
from headwater.connectors.storages.filesystem import FileSystem
from headwater.connectors.storages.s3 import S3
from headwater.connectors.storages.sftp import Sftp
from headwater.runs.importing import execute_import, records
from headwater.runs.job import RunCancelled
from tests.connectors.conformance.context import make_context
from tests.connectors.storages import servers
from tests.runs.scenario import csv_definition, open_scenario, passed
from tests.runs.test_changing_databases import cursor, during, fail

pytestmark = pytest.mark.process

ROWS = 30_000
HEADER = "id,email,changed"
PADDING = "x" * 900
"""More than the buffers of a connection and of a reader have."""


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reader wait for the store: it is a few thousand rows ahead."""
    monkeypatch.setattr(records, "MIN_BATCH_ROWS", 1_000)
    monkeypatch.setattr(records, "MAX_BATCH_ROWS", 1_000)


def write(path: Path, *, header: str = HEADER, rows: int = ROWS, email: str = "e") -> None:
    """Write the file of the pipeline, complete or not at all."""
    lines = [f"{header},note", *(f"{number},{email}{number}@x,2026-01-05,{PADDING}" for number in range(rows))]
    draft = path.with_name("draft")
    draft.write_text("\n".join(lines))
    draft.replace(path)


class Live:
    """A storage whose server is started and stopped by the test. Each run opens it again."""

    def __init__(self, make: Callable[[], FileStorage]) -> None:
        self._make = make

    def absolute_path(self, name: str) -> str:
        return self._make().absolute_path(name)

    def open(self, name: str) -> AbstractContextManager[StoredFile]:
        return self._make().open(name)

    def create(self, name: str, content_type: str) -> Any:
        raise NotImplementedError


# --- Columns ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


def filesystem(root: Path) -> Live:
    return Live(lambda: FileSystem(FileSystemSettings(), make_context(filesystem_root=root)))


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("id,mail,changed", "the schema of the source has changed: property email no longer exists"),
        ("id,changed,email", None),
        ("id,email,email", "email"),
        ("key,email,changed", "the schema of the source has changed: property id no longer exists"),
    ],
)
async def test_another_header_ends_the_next_run_and_leaves_everything(
    tmp_path: Path, folder: Path, header: str, reason: str | None
) -> None:
    write(folder / "users.csv", rows=2_000)
    async with open_scenario(tmp_path, csv_definition(), storage=filesystem(folder)) as scenario:
        await scenario.run()
        before, at = await scenario.stored(), await cursor(scenario)
        write(folder / "users.csv", rows=2_000, header=header)
        if reason is None:  # columns are found by their name: the values of the new one are no times
            report = await scenario.run()
            assert "Finalize" not in passed(report.progress)
            at = []  # no row has a time: the next run reads all
        else:
            failure = await fail(scenario.job())
            assert reason in failure.message, failure.message
        assert (await scenario.stored(), await cursor(scenario)) == (before, at)
        write(folder / "users.csv", rows=1_000, email="f")
        await scenario.run()
        assert len(await scenario.stored()) == 1_000


async def test_a_file_that_is_replaced_during_a_run_is_read_as_it_was(tmp_path: Path, folder: Path) -> None:
    write(folder / "users.csv")
    async with open_scenario(tmp_path, csv_definition(), storage=filesystem(folder)) as scenario:
        job = scenario.job()
        during(job, lambda: write(folder / "users.csv", header="id,mail,changed"))
        await execute_import(job)
        assert len(await scenario.stored()) == ROWS
        assert (await scenario.identities())["29999"] == {"email": "e29999@x"}


async def test_a_run_that_is_continued_with_another_header_fails(tmp_path: Path, folder: Path) -> None:
    write(folder / "users.csv", rows=2_000)
    async with open_scenario(tmp_path, csv_definition(), storage=filesystem(folder)) as scenario:
        await scenario.run()
        at, job = await cursor(scenario), scenario.job()
        write(folder / "users.csv", email="f")
        during(job, lambda: job.report.cancel(continues=True))
        with pytest.raises(RunCancelled):
            await execute_import(job)
        stored = await scenario.stored()
        write(folder / "users.csv", header="id,mail,changed")
        failure = await fail(scenario.job(run=job.run.id, fence=2))
        assert failure.message == "the schema of the source has changed: property email no longer exists"
        assert (await scenario.stored(), await cursor(scenario)) == (stored, at)
        write(folder / "users.csv", rows=10, email="g")
        await scenario.run()
        assert await scenario.identities() == {str(number): {"email": f"g{number}@x"} for number in range(10)}


# --- Logins -------------------------------------------------------------------------------------------------------


class Server:
    """A storage with a server that can refuse the login."""

    def __init__(self, folder: Path, exits: ExitStack) -> None:
        self.folder = folder
        self._exits = exits
        self._running = ExitStack()
        exits.callback(lambda: self._running.close())

    def stop(self) -> None:
        self._running.close()
        self._running = ExitStack()


class S3Server(Server):
    refusal = "S3 refuses the access key"

    def __init__(self, folder: Path, exits: ExitStack) -> None:
        super().__init__(folder, exits)
        self.file = folder / "bucket" / "users.csv"
        self.file.parent.mkdir()
        self.port = servers.free_port()

    def start(self, *, accepts: bool = True) -> None:
        key = f"{servers.ACCESS_KEY},{servers.SECRET_KEY if accepts else 'x' * 40}"
        self._running.enter_context(servers.s3_server(self.folder, port=self.port, key=key))

    def storage(self) -> FileStorage:
        keys = {"accessKeyID": servers.ACCESS_KEY, "secretAccessKey": servers.SECRET_KEY}
        place = {"region": "eu-west-1", "bucket": "bucket", "endpoint": f"http://127.0.0.1:{self.port}"}
        return S3(S3Settings.read(keys | place), make_context())


class SftpServer(Server):
    refusal = "the server rejects the user name or the password"

    def __init__(self, folder: Path, exits: ExitStack) -> None:
        super().__init__(folder, exits)
        self.file = folder / "users.csv"
        keys = folder.with_name("keys")
        keys.mkdir()
        self.key, self.public = servers.make_host_key(keys)
        self.port = servers.free_port()

    def start(self, *, accepts: bool = True) -> None:
        password = servers.PASSWORD if accepts else "x"
        self._running.enter_context(servers.asyncssh_server(self.folder, self.key, port=self.port, password=password))

    def storage(self) -> FileStorage:
        login = {"host": "127.0.0.1", "port": self.port, "username": servers.USER, "password": servers.PASSWORD}
        return Sftp(SftpSettings.read(login | {"hostPublicKey": f"127.0.0.1 {self.public}"}), make_context())


@pytest.fixture(params=[S3Server, SftpServer])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    (tmp_path / "served").mkdir()
    with ExitStack() as exits:
        yield request.param(tmp_path / "served", exits)
    gc.collect()  # the SFTP server leaves a file and a socket when it is stopped


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_a_login_that_is_revoked_during_a_run(tmp_path: Path, server: Any) -> None:
    write(server.file, rows=2_000)
    server.start()
    async with open_scenario(tmp_path, csv_definition(), storage=Live(server.storage)) as scenario:
        await scenario.run()
        at, job = await cursor(scenario), scenario.job()
        write(server.file, email="f")

        def revoke() -> None:
            server.stop()
            server.start(accepts=False)

        during(job, revoke)
        failure = await fail(job)
        assert failure.step == "Receive"
        failure = await fail(scenario.job())
        assert (failure.step, server.refusal in failure.message) == ("Receive", True), failure.message
        assert servers.PASSWORD not in failure.message and servers.SECRET_KEY not in failure.message
        assert len(await scenario.stored()) < ROWS
        assert await cursor(scenario) == at
        server.stop()
        server.start()
        await scenario.run()
        found = await scenario.identities()
        assert len(found) == ROWS and found["29999"] == {"email": "f29999@x"}
