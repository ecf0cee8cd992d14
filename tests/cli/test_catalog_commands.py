"""The commands for operators: their output, their effects, and their errors of one line."""

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from pathlib import Path

import pytest

from headwater.base.clock import SystemClock
from headwater.base.encryption import Keyring
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, OAuthAccount, open_catalog
from headwater.catalog.accounts import SealedTokens, seal_tokens
from headwater.cli.main import main
from headwater.connectors.contract import OAuthTokens
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.settings import Settings
from headwater.management.bootstrap import bootstrap
from headwater.management.connections import CreateConnection, create_connection
from headwater.storage.database import sqlite_url
from headwater.warehouse import open_warehouse
from tests.harness import NOW
from tests.warehouse.oracle import event

OLD = "the key of last year: 32 characters"
NEW = "the key of this year: 32 characters"

Run = Callable[..., str]


@pytest.fixture
async def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data directory in which a server has started once."""
    for name in ("SECRET_KEY", "OLD_SECRET_KEYS", "DATABASE_URL"):
        monkeypatch.delenv(f"HEADWATER_{name}", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("HEADWATER_DATA_DIR", str(tmp_path))
    async with _catalog(tmp_path) as catalog:
        await bootstrap(catalog)
    return tmp_path


def _catalog(folder: Path, keyring: Keyring | None = None) -> AbstractAsyncContextManager[Catalog]:
    return open_catalog(
        sqlite_url(folder / "catalog.db"), clock=SystemClock(), identifiers=Identifiers(), keyring=keyring
    )


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: str) -> str:
        """Return the standard output of a command that succeeds."""
        capsys.readouterr()
        main(arguments)
        return capsys.readouterr().out

    return run


def _fails(*arguments: str) -> str:
    """The one line of a command that fails."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, str), "it prints and exits 1"
    assert "\n" not in ended.value.code
    return ended.value.code


def test_a_key_is_printed_alone_and_opens_the_only_workspace(run: Run) -> None:
    (workspace,) = re.findall(r"^\d+", run("workspaces", "list"), re.MULTILINE)
    token = run("keys", "create", "CI").strip()
    assert re.fullmatch(r"api_[A-Za-z0-9]{43}", token)
    listing = run("keys", "list").splitlines()
    assert listing[0].split() == ["ID", "KEY", "OPENS", "CREATED", "(UTC)", "NAME"]
    assert f"{token[:8]}...{token[-6:]}  workspace {workspace}" in listing[2]
    assert token not in "\n".join(listing)


def test_a_key_is_revoked(run: Run) -> None:
    run("keys", "create", "CI")
    id_ = run("keys", "list").splitlines()[2].split()[0]
    assert run("keys", "revoke", id_) == ""
    assert id_ not in run("keys", "list")
    assert _fails("keys", "revoke", id_) == f"headwater: API key {id_} does not exist"


def test_which_workspace_a_key_opens_must_be_said_when_there_are_several(run: Run) -> None:
    second = run("workspaces", "create", "Second").strip()
    assert _fails("keys", "create", "CI").startswith("headwater: there are 2 workspaces: say which one")
    run("keys", "create", "One", "--workspace", second)
    run("keys", "create", "All", "--every-workspace")
    listing = run("keys", "list")
    assert re.search(rf"workspace {second} .* One$", listing, re.MULTILINE)
    assert re.search(r"every workspace .* All$", listing, re.MULTILINE)
    assert _fails("keys", "create", "CI", "--workspace", "1") == "headwater: workspace 1 does not exist"


def test_a_deleted_workspace_takes_its_keys_along(run: Run) -> None:
    second = run("workspaces", "create", "Second").strip()
    run("keys", "create", "Its", "--workspace", second)
    assert run("workspaces", "delete", second) == ""
    assert "Its" not in run("keys", "list")
    assert second not in run("workspaces", "list")
    assert _fails("workspaces", "delete", second) == f"headwater: workspace {second} does not exist"


@pytest.mark.parametrize("id_", ["x", "1.5", "99999999999", "\u0661"])
@pytest.mark.parametrize("command", [("keys", "revoke"), ("workspaces", "delete")])
def test_an_argument_that_is_no_identifier_is_wrong_usage(
    folder: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, str], id_: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main((*command, id_))
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("is not an identifier: identifiers are numbers\n")


def test_an_identifier_may_not_exist(run: Run) -> None:
    assert _fails("keys", "revoke", "0").startswith("headwater: ")
    assert _fails("workspaces", "delete", "0").startswith("headwater: ")


def test_names_follow_the_rules_and_cannot_take_over_a_terminal(run: Run) -> None:
    assert _fails("workspaces", "create", "x" * 101) == "headwater: name is longer than 100 characters"
    assert _fails("keys", "create", "") == "headwater: name is empty"
    run("workspaces", "create", "\x1b[31mred\n")
    assert "\x1b" not in run("workspaces", "list")
    assert "\ufffd[31mred\ufffd" in run("workspaces", "list")


async def _store(folder: Path, workspace: int) -> None:
    async with open_warehouse(sqlite_url(folder / "warehouse.db"), writes=True, clock=SystemClock()) as warehouse:
        await warehouse.load([event(1, workspace=workspace), event(2, workspace=workspace)], through=2)


def test_events_are_exported(run: Run, folder: Path, tmp_path: Path) -> None:
    (workspace,) = re.findall(r"^\d+", run("workspaces", "list"), re.MULTILINE)
    target = tmp_path / "export"
    assert _fails("events", "export", "--parquet", str(target)).startswith("headwater: no events have been stored in")
    asyncio.run(_store(folder, int(workspace)))
    day = NOW.date()
    heads, row = run("events", "export", "--parquet", str(target)).splitlines()
    assert heads.split() == ["WORKSPACE", "DAY", "EVENTS", "FILE"]
    file = target / f"workspace={workspace}" / f"day={day}" / "events.parquet"
    assert row.split() == [workspace, str(day), "2", str(file)]
    assert file.is_file()
    later = ("--since", str(day + timedelta(days=1)), "--workspace", workspace)
    assert len(run("events", "export", "--parquet", str(target), *later).splitlines()) == 1
    unknown = _fails("events", "export", "--parquet", str(target), "--workspace", "1")
    assert unknown == "headwater: there is no workspace 1"


@pytest.mark.parametrize(
    "arguments",
    [
        ("events",),
        ("events", "export"),
        ("events", "export", "--parquet", "x", "--since", "yesterday"),
        ("keys",),
        ("keys", "create"),
        ("keys", "fly"),
        ("secrets",),
        ("workspaces", "x"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_before_the_first_start_there_is_nothing_to_work_on(tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    assert _fails("keys", "list", "--data-dir", str(folder)).startswith(
        f"headwater: nothing has been set up in {folder}"
    )
    assert not folder.exists()


async def _add_dummy(folder: Path, secret: str) -> None:
    async with _catalog(folder, Keyring(secret)) as catalog:
        await create_connection(
            catalog,
            catalog.workspaces()[0].id,
            CreateConnection(name="x", role="Source", connector="dummy", settings={"operationDelay": "5ms"}),
        )


async def _settings(folder: Path, keyring: Keyring) -> Settings | None:
    async with _catalog(folder, keyring) as catalog:
        (connection,) = catalog.connections(catalog.workspaces()[0].id)
        return catalog.decrypt_settings(connection)


async def _run_in_thread(run: Run, *arguments: str) -> str:
    return await asyncio.to_thread(run, *arguments)


async def test_a_rotation(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    await _add_dummy(folder, OLD)
    monkeypatch.setenv("HEADWATER_SECRET_KEY", NEW)
    failed = await _run_in_thread(_fails, "secrets", "rotate")
    assert "cannot be read: it was encrypted with the key" in failed
    monkeypatch.setenv("HEADWATER_OLD_SECRET_KEYS", f"{'x' * 40},{OLD}")
    printed = await _run_in_thread(run, "secrets", "rotate")
    assert printed.startswith("The settings of 1 connections are encrypted with the present key, those of 1 since now.")
    assert await _settings(folder, Keyring(NEW)) == DummySettings(operation_delay="5ms")


async def test_a_rotation_includes_the_tokens_of_oauth_accounts(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _catalog(folder, Keyring(OLD)) as catalog:
        workspace, tokens = catalog.workspaces()[0].id, OAuthTokens(access_token="access")
        account = OAuthAccount(id=1, code="shop", authorized_at=NOW)
        sealed = seal_tokens(catalog.keyring, account.id, workspace, "app", tokens)
        async with catalog.change() as change:
            kept = SealedTokens(sealed=sealed, expires_at=None, authorized_at=NOW)
            change.add_oauth_account(workspace, "app", account, kept)
            connection = Connection(
                id=2,
                workspace=workspace,
                name="Shop",
                connector="app",
                role="Source",
                strategy=None,
                sending_mode=None,
                created_at=NOW,
                oauth_account=account,
            )
            change.add_connection(connection)
    monkeypatch.setenv("HEADWATER_SECRET_KEY", NEW)
    assert "the tokens of OAuth account 1 cannot be read" in await _run_in_thread(_fails, "secrets", "rotate")
    monkeypatch.setenv("HEADWATER_OLD_SECRET_KEYS", OLD)
    printed = await _run_in_thread(run, "secrets", "rotate")
    assert "The tokens of 1 OAuth accounts are encrypted with the present key, those of 1 since now." in printed
    async with _catalog(folder, Keyring(NEW)) as catalog:
        found = await catalog.oauth_accounts.read(account.id)
        assert found is not None and found.access_token == "access"


async def test_the_key_in_the_file_counts_as_an_older_one(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "secret-key").write_text(OLD + "\n")
    await _add_dummy(folder, OLD)
    assert "those of 0 since now" in await _run_in_thread(run, "secrets", "rotate")
    monkeypatch.setenv("HEADWATER_SECRET_KEY", NEW)
    assert "those of 1 since now" in await _run_in_thread(run, "secrets", "rotate")
    assert await _settings(folder, Keyring(NEW)) == DummySettings(operation_delay="5ms")


def test_a_rotation_makes_no_key(folder: Path, run: Run) -> None:
    assert _fails("secrets", "rotate").startswith("headwater: there is no secret key: set HEADWATER_SECRET_KEY")
    assert not (folder / "secret-key").exists()


def test_a_read_only_key_says_so(run: Run) -> None:
    run("keys", "create", "Dashboard", "--read-only")
    [line] = [line for line in run("keys", "list").splitlines() if line.endswith("Dashboard")]
    assert ", read-only " in line
    assert run("keys", "list").count("read-only") == 1
