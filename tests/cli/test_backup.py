"""`headwater backup` copies a whole data directory, and `headwater restore` restores a complete copy, or nothing."""

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from headwater.base.clock import SystemClock
from headwater.cli import backup
from headwater.log import LogEntry, SqliteEventLog
from headwater.server import preflight
from headwater.server.errors import StartupError
from headwater.server.settings import read
from headwater.state import MessageState, open_state
from headwater.state.deduplication.rocksdb import read_messages
from headwater.storage.database import sqlite_url
from tests.cli.running import Shell
from tests.sqlite import fill

SECRETS: Final = {"secret-key": "the secret key of an installation", "api-key": "api_the_key_of_an_installation"}


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return a data directory with a row in each store, messages, a log, secrets, and files of no use."""
    folder = tmp_path / "data"
    (folder / "run").mkdir(parents=True)
    (folder / "run" / "backend.sock").touch()
    (folder / "applications" / "1").mkdir(parents=True)
    (folder / "applications" / "1" / "users.json").write_text("{}")
    for name, text in SECRETS.items():
        (folder / name).write_text(f"{text}\n")
    fill(folder)

    async def write() -> None:
        async with (
            open_state(sqlite_url(folder / "state.db"), writes=True, clock=SystemClock()) as state,
            state.transaction() as transaction,
        ):
            await transaction.save({(1, "m"): MessageState(1, 1)})
        log = SqliteEventLog(folder / "log.db", SystemClock())
        await log.append(LogEntry(1, b"", b"call"))
        await log.close()

    asyncio.run(write())
    for path in folder.glob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            connection.executescript(f"CREATE TABLE marks (name); INSERT INTO marks VALUES ('{path.name}')")
    return folder


def contents(folder: Path) -> dict[str, object]:
    """Return what is in a data directory or a backup, by file."""
    found: dict[str, object] = {"ledger": list(read_messages(folder / "ledger"))}
    for path in folder.glob("*.db"):
        with closing(sqlite3.connect(path)) as connection:
            found[path.name] = list(connection.iterdump())
    for path in (*(folder / name for name in SECRETS), *folder.glob("applications/*/*")):
        if path.exists():
            found[str(path.relative_to(folder))] = path.read_text()
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_restored_directory_has_everything(shell: Shell, data_dir: Path, tmp_path: Path) -> None:
    target, restored = tmp_path / "backups" / "1", tmp_path / "restored"
    expected = contents(data_dir)
    assert len(expected) == 8 + 1 + 2 + 1
    done = shell.succeed("backup", str(target))
    assert done.output.endswith(f" MB, are in {target}\n")
    shell.set({"HEADWATER_DATA_DIR": str(restored)})
    again = shell.succeed("restore", str(target))
    assert contents(target) == contents(restored) == contents(data_dir) == expected
    assert names(restored) - {"lock"} == names(target) - {"backup.json"}
    for text in (done.output, done.errors, again.output, again.errors, (target / "backup.json").read_text()):
        assert not any(secret in text for secret in SECRETS.values())
    for folder in (target, restored):
        assert {path.stat().st_mode & 0o077 for path in (folder, *folder.rglob("*"))} == {0}


@pytest.mark.parametrize("name", ["catalog.db", "secret-key", "ledger", "notes.txt"])
def test_a_directory_with_data_is_never_restored_into(shell: Shell, data_dir: Path, tmp_path: Path, name: str) -> None:
    shell.succeed("backup", str(tmp_path / "backup"))
    other = tmp_path / "other"
    other.mkdir()
    (other / name).write_text("kept")
    result = shell.run("restore", str(tmp_path / "backup"), "--data-dir", str(other))
    assert (result.status, result.output) == (1, "")
    assert f"{other} is not empty ({name}): nothing was changed" in result.errors
    assert names(other) == {name}
    assert (other / name).read_text() == "kept"


def test_a_directory_in_use_is_never_restored_into(shell: Shell, data_dir: Path, tmp_path: Path) -> None:
    shell.succeed("backup", str(tmp_path / "backup"))
    other = tmp_path / "other"
    lock = preflight.claim_data_dir(read({"HEADWATER_DATA_DIR": str(other)}))
    result = shell.run("restore", str(tmp_path / "backup"), "--data-dir", str(other))
    os.close(lock)
    assert "is in use by another running server" in result.errors


KILLED: Final = """
import os, signal, sys
from headwater.cli import backup, main
copied = 0
original = backup._copy
def copy(*arguments):
    global copied
    copied += 1
    if copied == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*arguments)
backup._copy = copy
main.main(sys.argv[1:])
"""


def run_killed(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, *arguments], env={**os.environ}, timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_a_killed_restore_is_repeated_and_no_server_starts_before(shell: Shell, data_dir: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "backup", tmp_path / "other"
    shell.succeed("backup", str(target))
    run_killed("restore", str(target), "--data-dir", str(other))
    settings = read({"HEADWATER_DATA_DIR": str(other)})
    with pytest.raises(StartupError, match="was interrupted: run `headwater restore` again"):
        preflight.claim_data_dir(settings)
    shell.succeed("restore", str(target), "--data-dir", str(other))
    assert contents(other) == contents(data_dir)
    os.close(preflight.claim_data_dir(settings))


def test_a_killed_backup_is_not_restored(shell: Shell, data_dir: Path, tmp_path: Path) -> None:
    target, other = tmp_path / "backup", tmp_path / "other"
    run_killed("backup", str(target))
    result = shell.run("restore", str(target), "--data-dir", str(other))
    assert f"{target} is not a complete backup: it has no backup.json" in result.errors
    assert not other.exists()
    assert "is not empty" in shell.run("backup", str(target)).errors


def _describe(target: Path, **members: object) -> None:
    path = target / "backup.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **members}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda target: (target / "state.db").unlink(), "state.db is missing. Nothing was changed"),
        (lambda target: os.truncate(target / "log.db", 100), "log.db has 100 bytes instead of"),
        (lambda target: (target / "backup.json").write_text("{"), "backup.json cannot be read"),
        (lambda target: _describe(target, format=2, version="9.0"), "is a backup of a later version, 9.0"),
        (lambda target: _describe(target, files={"../x": 1}), "names a file outside of the backup: ../x"),
    ],
)
def test_a_damaged_backup_is_not_restored(
    shell: Shell, data_dir: Path, tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    target, other = tmp_path / "backup", tmp_path / "other"
    shell.succeed("backup", str(target))
    damage(target)
    result = shell.run("restore", str(target), "--data-dir", str(other))
    assert (result.status, result.errors.count("\n")) == (1, 1)
    assert message in result.errors
    assert not other.exists()


def test_without_an_installation_there_is_no_backup(shell: Shell, tmp_path: Path) -> None:
    result = shell.run("backup", str(tmp_path / "backup"))
    assert f"there is no installation in {tmp_path / 'data'}" in result.errors
    assert not (tmp_path / "backup").exists()


def test_next_to_postgresql_the_log_and_the_keys_are_copied(shell: Shell, data_dir: Path, tmp_path: Path) -> None:
    shell.set({"HEADWATER_DATABASE_URL": "postgresql://127.0.0.1:1/x"})
    done = shell.succeed("backup", str(tmp_path / "backup"))
    assert names(tmp_path / "backup") == {"log.db", "backup.json", "applications", *SECRETS}
    assert "back it up with pg_dump before each `headwater backup`" in done.output
    shell.set({"HEADWATER_NATS_URL": "nats://127.0.0.1:1"})
    shell.succeed("backup", str(tmp_path / "other"))
    assert names(tmp_path / "other") == {"backup.json", "applications", *SECRETS}


def test_every_file_of_an_installation_is_known(data_dir: Path) -> None:
    """A store that gets a file of its own is copied, or this fails."""
    settings = read({"HEADWATER_DATA_DIR": str(data_dir)})
    assert {path.name for path in backup._databases(settings)} == {path.name for path in data_dir.glob("*.db")}
    properties = {name: value for name, value in vars(type(settings)).items() if name.endswith("_path")}
    paths = {getattr(settings, name).name for name in properties}
    assert paths - {"lock"} == {path.name for path in backup._databases(settings)} | set(SECRETS)
