"""`headwater doctor` finds what is wrong with an installation, says what to do, and changes nothing."""

import argparse
import asyncio
import importlib.metadata
import os
import socket
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from headwater.base.clock import SystemClock
from headwater.base.encryption import Keyring
from headwater.base.identifiers import Identifiers
from headwater.catalog import open_catalog
from headwater.cli.doctor import data, machine, report, versions
from headwater.cli.doctor.findings import Finding, Installation, ok
from headwater.cli.doctor.server import check_server
from headwater.connectors.contract import ApiVersion
from headwater.log import LogEntry, SqliteEventLog
from headwater.management.bootstrap import bootstrap
from headwater.management.connections import CreateConnection, create_connection
from headwater.server import preflight
from headwater.server.settings import read
from headwater.storage.database import sqlite_url
from tests.cli.running import Shell
from tests.nats import NatsServer
from tests.postgresql import PostgresqlServer
from tests.system import RunningSystem, free_port

SECRET = "the key of this year: 32 characters"
OTHER = "the key of last year: 32 characters"

Prepare = Callable[[Path], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a private data directory."""
    found = tmp_path / "data"
    found.mkdir(mode=0o700)
    return found


def install(folder: Path, **variables: str) -> Installation:
    environ = {"HEADWATER_DATA_DIR": str(folder)}
    environ |= {f"HEADWATER_{name.upper()}": value for name, value in variables.items()}
    return Installation(environ, read(environ), None)


def results(findings: Iterable[Finding]) -> dict[str, str]:
    """Return the results by check. Each fault has a remedy."""
    found = list(findings)
    assert all(bool(each.remedy) == (each.result != "ok") for each in found)
    return {each.check: each.result for each in found}


def create_catalog(folder: Path, secret: str = SECRET) -> None:
    """Make a catalog with a connection whose settings are encrypted."""

    async def create() -> None:
        url = sqlite_url(folder / "catalog.db")
        async with open_catalog(
            url, clock=SystemClock(), identifiers=Identifiers(), keyring=Keyring(secret)
        ) as catalog:
            await bootstrap(catalog)
            request = CreateConnection(name="x", role="Source", connector="dummy", settings={"operationDelay": "5ms"})
            await create_connection(catalog, catalog.workspaces()[0].id, request)

    asyncio.run(create())


@pytest.mark.parametrize(
    ("variables", "result", "words"),
    [
        ({}, "ok", "every HEADWATER_ variable is known"),
        ({"portt": "1"}, "warning", "HEADWATER_PORTT is not a setting: did you mean HEADWATER_PORT?"),
        ({"workrs": "1"}, "warning", "did you mean HEADWATER_BACKENDS?"),
        ({"xyzzy": "1"}, "warning", "HEADWATER_XYZZY is not a setting"),
        ({"workers": "1"}, "warning", "HEADWATER_WORKERS is the earlier name of HEADWATER_BACKENDS"),
        ({"url": "http://x"}, "ok", "every HEADWATER_ variable is known"),
    ],
)
def test_variables(folder: Path, variables: dict[str, str], result: str, words: str) -> None:
    [finding] = data.check_variables(install(folder, **variables))
    assert finding.result == result
    assert words in finding.message


def test_a_setting_that_is_not_valid_ends_the_checks(shell: Shell) -> None:
    shell.set({"HEADWATER_PORT": "none"})
    result = shell.run("doctor", "--json")
    assert result.status == 1
    [document] = result.documents
    assert (document["check"], document["result"]) == ("settings", "problem")
    assert document["message"] == "HEADWATER_PORT must be a number from 1 to 65535, not 'none'"


def _share(path: Path) -> None:
    path.chmod(0o755)


def _remove(path: Path) -> None:
    path.rmdir()


def _replace_by_file(path: Path) -> None:
    path.rmdir()
    path.write_text("")


@pytest.mark.parametrize(
    ("prepare", "result"),
    [
        (lambda path: None, "ok"),
        (_share, "warning"),
        (_remove, "warning"),
        (_replace_by_file, "problem"),
    ],
)
def test_the_data_directory(folder: Path, prepare: Prepare, result: str) -> None:
    prepare(folder)
    assert results(data.check_folder(install(folder)))["data directory"] == result


@pytest.mark.parametrize(
    ("free", "result"), [(data.MIN_FREE_BYTES - 1, "problem"), (data.LOW_FREE_BYTES - 1, "warning"), (1 << 40, "ok")]
)
def test_free_space(folder: Path, monkeypatch: pytest.MonkeyPatch, free: int, result: str) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    assert results(data.check_folder(install(folder)))["disk"] == result


def _keep(folder: Path) -> None:
    (folder / "secret-key").write_text(SECRET)
    (folder / "secret-key").chmod(0o600)


def _expose(folder: Path) -> None:
    _keep(folder)
    (folder / "secret-key").chmod(0o644)


def _shorten(folder: Path) -> None:
    (folder / "secret-key").write_text("short")


@pytest.mark.parametrize(
    ("prepare", "variables", "result", "words"),
    [
        (_keep, {}, "ok", "opens all 1 encrypted records"),
        (_expose, {}, "warning", "other users can read"),
        (_shorten, {}, "problem", "must have at least 32 characters"),
        (lambda folder: None, {}, "problem", "there is no secret key"),
        (lambda folder: None, {"secret_key": SECRET}, "ok", "HEADWATER_SECRET_KEY opens all 1 encrypted records"),
        (lambda folder: None, {"secret_key": OTHER}, "problem", "does not open the settings of connection"),
        (
            lambda folder: None,
            {"secret_key": OTHER, "old_secret_keys": SECRET},
            "warning",
            "1 of 1 records are encrypted with earlier keys",
        ),
    ],
)
def test_the_secret_key(folder: Path, prepare: Prepare, variables: dict[str, str], result: str, words: str) -> None:
    create_catalog(folder)
    prepare(folder)
    first, *_ = data.check_secret_key(install(folder, **variables))
    assert first.result == result
    assert words in first.message
    assert SECRET not in first.message


def test_a_first_start_has_no_secret_key(folder: Path) -> None:
    assert results(data.check_secret_key(install(folder))) == {"secret key": "ok"}
    assert not list(folder.iterdir())


@pytest.mark.parametrize(
    ("revision", "oldest_usable", "result"),
    [("0001", None, "warning"), ("9999", None, "problem"), ("9999", "9998", "problem"), ("9999", "0001", "warning")],
)
def test_revisions(folder: Path, revision: str, oldest_usable: str | None, result: str) -> None:
    create_catalog(folder)
    with sqlite3.connect(folder / "catalog.db") as connection:
        statement = "UPDATE catalog_revision SET version_num = ?, oldest_usable = ?"
        connection.execute(statement, (revision, oldest_usable))
    connection.close()
    found = results(data.check_databases(install(folder)))
    assert found.pop("catalog") == result
    assert set(found.values()) == {"ok"}, "files that do not exist yet are no fault"
    assert len(found) == len(data.STORES) - 1


def test_databases_of_this_version(folder: Path) -> None:
    create_catalog(folder)
    assert set(results(data.check_databases(install(folder))).values()) == {"ok"}


def test_a_file_that_is_no_database_is_a_problem(folder: Path) -> None:
    (folder / "state.db").write_bytes(b"not a database" * 1_000)
    assert results(data.check_databases(install(folder)))["state store"] == "problem"
    assert (folder / "state.db").read_bytes().startswith(b"not a database")


def test_the_checks_of_databases_change_nothing(folder: Path, tmp_path: Path) -> None:
    """A copy has no log that an earlier connection, once it is collected as garbage, would write back to the file."""
    create_catalog(tmp_path)
    with closing(sqlite3.connect(tmp_path / "catalog.db", isolation_level=None)) as connection:
        connection.execute("UPDATE catalog_revision SET version_num = '0001'")
        connection.execute("VACUUM INTO ?", (str(folder / "catalog.db"),))
    before = (folder / "catalog.db").read_bytes()
    list(data.check_databases(install(folder)))
    list(data.check_secret_key(install(folder, secret_key=SECRET)))
    assert (folder / "catalog.db").read_bytes() == before


def test_the_versions_of_apis_that_connections_use(folder: Path) -> None:
    [none] = versions.check_api_versions(install(folder))
    assert (none.result, none.message) == ("ok", "none is in use")
    create_catalog(folder)
    with sqlite3.connect(folder / "catalog.db") as connection:
        connection.execute("UPDATE connections SET connector = 'klaviyo'")
    connection.close()
    [found] = versions.check_api_versions(install(folder))
    assert found.check == "api versions" and found.message != none.message


@pytest.mark.parametrize(
    ("days", "result", "words"),
    [
        (181, "ok", "those of the 1 connectors in use do not end soon"),
        (180, "warning", "version v9 of the API of klaviyo, which 3 connections use, ends on {}, in 180 days"),
        (1, "warning", "in 1 days"),
        (0, "problem", "version v9 of the API of klaviyo, which 3 connections use, ended on {}"),
        (-400, "problem", "ended on {}"),
        (None, "ok", "do not end soon"),
    ],
)
def test_a_version_that_ends(days: int | None, result: str, words: str) -> None:
    today = datetime.now(UTC).date()
    ends_on = None if days is None else today + timedelta(days=days)
    known = {"klaviyo": ApiVersion(name="v9", ends_on=ends_on), "other": ApiVersion(name="v1", ends_on=today)}
    findings = list(versions.compare_versions({"klaviyo": 3, "dummy": 1}, known, today))
    assert results(findings) == {"api versions": result}
    assert words.format(ends_on) in findings[0].message


def test_ports(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        installation = install(
            folder, port=str(taken.getsockname()[1]), metrics_port=str(free_port()), host="127.0.0.1"
        )
        assert results(machine.check_ports(installation)) == {"port": "problem", "metrics port": "ok"}
    elsewhere = install(folder, host="192.0.2.1")
    [finding] = machine.check_ports(elsewhere)
    assert "is not an address of this machine" in finding.message


@pytest.mark.parametrize(("connections", "result"), [("10", "ok"), ("30000", "warning")])
def test_open_files(folder: Path, monkeypatch: pytest.MonkeyPatch, connections: str, result: str) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda kind: (1_024, 20_000))
    installation = install(folder, max_client_connections=connections)
    assert results(machine.check_open_files(installation)) == {"open files": result}


def test_a_clock_that_is_behind_the_data_is_a_problem(folder: Path) -> None:
    installation = install(folder)
    assert results(machine.check_clock(installation)) == {"clock": "ok"}
    (folder / "log.db").touch()
    later = (datetime.now(UTC) + timedelta(hours=1)).timestamp()
    os.utime(folder / "log.db", (later, later))
    assert results(machine.check_clock(installation)) == {"clock": "problem"}


@pytest.mark.parametrize(
    ("requirement", "fault"),
    [
        ("pytest>=1", False),
        ("pytest>=1,<100000; python_version < '4'", False),
        ("pytest>=100000", True),
        ("pytest<1", True),
        ("no-such-package>=1", True),
        ("no-such-package>=1; extra == 'x'", False),
        ("no-such-package>=1; python_version < '3.9'", False),
        ("pytest[dev]>=1", False),
    ],
)
def test_requirements(requirement: str, fault: bool) -> None:
    assert (machine.find_fault(requirement) is not None) is fault


def test_the_packages_of_this_environment_fit(folder: Path) -> None:
    assert importlib.metadata.requires("headwater")
    assert results(machine.check_packages(install(folder))) == {"packages": "ok"}
    assert results(machine.check_python(install(folder))) == {"python": "ok"}


@pytest.mark.parametrize(("sandbox", "result"), [("warn", "warning"), ("require", "problem")])
def test_sandboxes_that_are_not_confined(
    folder: Path, monkeypatch: pytest.MonkeyPatch, sandbox: str, result: str
) -> None:
    monkeypatch.setattr(preflight, "find_sandbox_fault", lambda settings: "they cannot be confined: no seccomp")
    assert results(machine.check_sandboxes(install(folder, sandbox=sandbox))) == {"sandboxes": result}


def test_an_absent_server(folder: Path) -> None:
    port = str(free_port())
    assert results(check_server(install(folder, port=port))) == {"server": "ok"}
    given = install(folder, port=port)
    named = Installation(given.environ, given.settings, given.settings.base_url)
    assert results(check_server(named)) == {"server": "problem"}
    (folder / "lock").write_text(f"{os.getpid()}\n")
    held = results(check_server(install(folder, port=port)))
    assert held == {"server": "problem" if given.is_running else "ok"}


def test_a_check_that_fails_is_a_problem(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def check_moon(installation: Installation) -> Iterator[Finding]:
        yield ok("moon", "full")
        raise ValueError("eclipse")

    monkeypatch.setattr(report, "CHECKS", (check_moon,))
    arguments = argparse.Namespace(data_dir=str(folder), url=None)
    first, second = report.find({}, arguments)
    assert first == ok("moon", "full")
    assert (second.result, second.message) == ("problem", "the check failed: ValueError: eclipse")


def test_postgresql(folder: Path, postgresql_server: PostgresqlServer) -> None:
    url = postgresql_server.create()
    installation = install(folder, database_url=url)
    try:
        assert results(data.check_postgresql(installation)) == {"postgresql": "ok"}
        found = list(data.check_databases(installation))
        assert {each.result for each in found} <= {"ok", "warning"}
        assert results(iter(found))["event log"] == "ok"
    finally:
        postgresql_server.drop(url)
    [finding] = data.check_postgresql(installation)
    assert finding.result == "problem"
    assert "there is no such database" in finding.message
    assert results(data.check_databases(installation))["catalog"] == "problem"


def test_nats(folder: Path, nats_server: NatsServer) -> None:
    assert results(data.check_nats(install(folder, nats_url=nats_server.url))) == {"nats": "ok"}
    away = install(folder, nats_url=f"nats://127.0.0.1:{free_port()}")
    assert results(data.check_nats(away)) == {"nats": "problem"}
    assert results(data.check_nats(install(folder))) == {}


def test_calls_that_are_left_in_the_log_file(folder: Path) -> None:
    async def append(*, processed: bool) -> None:
        log = SqliteEventLog(folder / "log.db", SystemClock())
        position = await log.append(LogEntry(3, b"", b"x"))
        lease = await log.lease("warehouse")
        if processed:
            await lease.advance(position + 2)
        await lease.release()
        await log.close()

    with_nats = install(folder, nats_url="nats://127.0.0.1:1")
    assert results(data.check_former_log(with_nats)) == {}
    asyncio.run(append(processed=True))
    assert results(data.check_former_log(with_nats)) == {}
    asyncio.run(append(processed=False))
    (finding,) = data.check_former_log(with_nats)
    assert "log.db has calls that are not processed (1)" in finding.message
    assert results(data.check_former_log(install(folder))) == {}
    (folder / "log.db").write_bytes(b"no database, but a text of more than a hundred bytes" * 9)
    assert results(data.check_former_log(with_nats)) == {"former log": "problem"}


def test_files_that_were_moved_are_reported(folder: Path) -> None:
    installation = install(folder)
    assert results(data.check_moved_files(installation)) == {}
    (folder / preflight.MOVED).touch()
    (finding,) = data.check_moved_files(installation)
    assert finding.message == f"the files in {folder} were moved to PostgreSQL"
    assert finding.remedy.startswith("set HEADWATER_DATABASE_URL")
    assert results(data.check_moved_files(install(folder, database_url="postgresql://127.0.0.1:1/x"))) == {}


def test_a_running_system_is_well(shell: Shell, system: RunningSystem, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1 << 40})  # the disk of a machine that runs tests may be full
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    shell.set({"HEADWATER_DATA_DIR": str(system.data_dir), "HEADWATER_PORT": str(system.port)})
    shell.set({"HEADWATER_WORKRS": "4"})
    result = shell.run("doctor")
    assert "problem  " not in result.output, result.output
    assert result.status == 0
    assert (
        "warning  settings        HEADWATER_WORKRS is not a setting: did you mean HEADWATER_BACKENDS?" in result.output
    )
    for check in ("port", "server", "api key", "envoy", "secret key", "catalog", "warehouse"):
        assert f"ok       {check}" in result.output, result.output
