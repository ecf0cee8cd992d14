"""Every block of docs/operating.md is run by a test, or is in `CHECKED`, with the reason why it is checked only."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import yaml

from headwater.cli.main import main
from headwater.server.settings import read, unknown_variables
from tests.postgresql import PASSWORD, PostgresqlServer, program
from tests.sqlite import fill

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "operating.md").read_text()
HERE: Final = "tests/deploy/test_operating_blocks.py"
PAGE_TESTS: Final = "tests/e2e/test_operating_page.py"

RUN: Final = {
    "printf 'POSTGRES_PASSWORD": HERE,
    "kubectl create secret": HERE,
    "cdp.example.com {": "tests/deploy/test_caddy.py",
    "max_payload: 9MB": HERE,
    "SELECT application_name": HERE,
    "SELECT day, event": "tests/walks/test_walks.py",
    "headwater keys list": PAGE_TESTS,
    "NEW_WRITE_KEY=": PAGE_TESTS,
    "export HEADWATER_OLD_SECRET_KEYS": PAGE_TESTS,
    "headwater secrets rotate": PAGE_TESTS,
    "printf '%s\\n' \"$HEADWATER_SECRET_KEY\"": PAGE_TESTS,
    "install -m 0644 new/fullchain.pem": HERE,
    "headwater backup": HERE,
    "pg_dump": HERE,
    "pg_restore": HERE,
    "export HEADWATER_DATABASE_URL": HERE,
}
"""The first words of the blocks that run, and the test that runs them, or the commands that this machine allows."""

CHECKED: Final = {
    "python3 -m venv": "it downloads 60 packages; tests/test_packaging.py installs the package",
    "useradd": "it needs root and systemd; tests/deploy/test_files.py verifies the unit",
    "docker build": "it needs a Docker daemon; tests/deploy/test_confined.py confines the server likewise",
    "helm install": "it needs a cluster; the chart is rendered with its values",
    "HEADWATER_HOST=0.0.0.0": "it needs a certificate in /etc; tests/server/test_certificate.py serves others",
    '{"timestamp"': "an example of a line; its members are those that the gateway configures",
    "scrape_configs:": "it needs Prometheus; tests/deploy/test_monitoring.py checks the rules",
    'pip install "headwater[otlp]"': "it downloads packages; tests/server/test_tracing.py sends traces",
    "a later version has migrated": "a message; tests/storage/test_compatibility.py provokes it",
}
"""The first words of the blocks that are checked only, and the reason."""


def blocks() -> list[tuple[str, str]]:
    """Return the language and the text of each block."""
    found = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    return [(language, textwrap.dedent(text)) for language, text in found]


def block(start: str) -> str:
    """Return the block that begins with some words."""
    [found] = [text for _, text in blocks() if text.startswith(start)]
    return found


def test_every_block_is_run_or_has_a_reason() -> None:
    known = [*RUN, *CHECKED]
    assert not RUN.keys() & CHECKED.keys()
    for _, text in blocks():
        assert len([start for start in known if text.startswith(start)]) == 1, text
    for start in known:
        block(start)
    assert all((ROOT / path).is_file() for path in RUN.values())
    for reason in CHECKED.values():
        assert all((ROOT / path).is_file() for path in re.findall(r"tests/\S+\.py", reason))


def shell_commands() -> Iterator[list[str]]:
    """Yield the words of each command of the blocks in a shell, without assignments before it."""
    for language, text in blocks():
        if language != "sh":
            continue
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            while words and re.fullmatch(r"(export )?[A-Z_]+=.*", words[0]):
                words = words[1:]
            if words:
                yield words


@pytest.mark.parametrize("text", [text for language, text in blocks() if language == "sh"])
def test_blocks_are_valid_in_a_shell(text: str) -> None:
    checked = subprocess.run(["bash", "-n"], input=text, capture_output=True, text=True, timeout=20)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_files_of_the_project_and_commands_exist(capsys: pytest.CaptureFixture[str]) -> None:
    ours = [words for words in shell_commands() if words[0].rpartition("/")[2] == "headwater"]
    assert len(ours) >= 10
    for words in ours:
        names = [word for word in words[1:3] if word.isalpha()][: 1 if words[1] in ("backup", "restore") else 2]
        with pytest.raises(SystemExit) as ended:
            main([*names, "--help"])
        assert ended.value.code == 0, words
    capsys.readouterr()
    paths = {word for words in shell_commands() for word in words if word.startswith(("deploy/", "requirements/"))}
    assert paths and all((ROOT / path).exists() for path in paths)


def test_settings_of_commands_are_known() -> None:
    given = {
        name: value
        for language, text in blocks()
        if language == "sh"
        for name, value in re.findall(r"(?<![$\w])(HEADWATER_[A-Z_]+)=([^\s'\"$\\]+)", text)
    }
    assert len(given) >= 8
    assert unknown_variables(given) == {}
    read({**given, "HEADWATER_OLD_SECRET_KEYS": ""})


def test_an_example_of_the_access_log_has_the_members_of_the_configuration() -> None:
    members = re.findall(r'"(\w+)":', block('{"timestamp"'))
    configuration = (ROOT / "src" / "headwater" / "server" / "gateway.py").read_text()
    assert members and [name for name in members if f'"{name}":' not in configuration] == []


def test_scrape_targets_are_valid() -> None:
    [job] = yaml.safe_load(block("scrape_configs:"))["scrape_configs"]
    assert all(re.fullmatch(r"[\d.]+:9090", target) for each in job["static_configs"] for target in each["targets"])


# Containers and Kubernetes


def test_secrets_of_compose_are_those_that_it_needs(tmp_path: Path) -> None:
    subprocess.run(["sh", "-c", block("printf 'POSTGRES").splitlines()[0]], cwd=tmp_path, check=True, timeout=20)
    secrets = dict(line.split("=") for line in (tmp_path / ".env").read_text().splitlines())
    compose = (ROOT / "compose.yaml").read_text()
    assert set(re.findall(r"\$\{(\w+)", compose)) == secrets.keys()
    assert [len(secret) for secret in secrets.values()] == [48, 64]
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0 and _has_docker():
        command = ["docker", "compose", "--file", str(ROOT / "compose.yaml"), "--env-file", ".env", "config", "--quiet"]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60)


def _has_docker() -> bool:
    return shutil.which("docker") is not None


@pytest.mark.parametrize("start", ["helm install", "kubectl create secret"])
def test_the_chart_renders_with_the_values_of_the_commands(start: str) -> None:
    [line] = [line for line in block(start).replace("\\\n", " ").splitlines() if line.startswith("helm install ")]
    helm = Path(sys.executable).with_name("helm")
    command = [str(helm), "template", *shlex.split(line)[2:]]
    rendered = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert rendered.returncode == 0, rendered.stderr
    kinds = [each["kind"] for each in yaml.safe_load_all(rendered.stdout) if each]
    assert "StatefulSet" in kinds


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="install kubectl to make the secret without a cluster")
def test_the_secret_of_kubernetes_has_settings() -> None:
    text = block("kubectl create secret").partition("helm install")[0].rstrip()
    made = subprocess.run(
        ["sh", "-c", f"{text} --dry-run=client --output=yaml"], capture_output=True, text=True, timeout=60
    )
    assert made.returncode == 0, made.stderr
    secret = yaml.safe_load(made.stdout)
    assert (secret["kind"], secret["metadata"]["name"]) == ("Secret", "headwater")
    assert unknown_variables(dict.fromkeys(secret["data"], "x")) == {}


def test_the_configuration_of_nats_is_valid(tmp_path: Path) -> None:
    nats = Path(sys.executable).with_name("nats-server")
    configuration = tmp_path / "nats.conf"
    configuration.write_text(block("max_payload").replace("/var/lib/nats", str(tmp_path)))
    checked = subprocess.run([nats, "--config", configuration, "-t"], capture_output=True, text=True, timeout=30)
    assert checked.returncode == 0, checked.stderr


def test_certificates_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "etc").mkdir()
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / "new" / name).write_text(name)
    text = block("install -m 0644 new/fullchain.pem").replace("/etc/headwater", "etc")
    subprocess.run(["sh", "-ec", text], cwd=tmp_path, check=True, timeout=20)
    assert (tmp_path / "etc" / "privkey.pem").stat().st_mode & 0o777 == 0o600


# Databases


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir(mode=0o700)
    fill(folder)
    return folder


@pytest.fixture
def databases(postgresql_server: PostgresqlServer) -> Iterator[tuple[str, str]]:
    """Yield the URLs of two databases: one without tables, and another one."""
    urls = [postgresql_server.create(empty=True) for _ in range(2)]
    yield urls[0], urls[1]
    for url in urls:
        postgresql_server.drop(url)


def type_in(text: str, tmp_path: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run commands, in whose paths a folder takes the place of the documented ones, with the programs of the tests."""
    for path, place in (("/backups/", f"{tmp_path}/"), ("~/headwater", str(tmp_path / "restored"))):
        text = text.replace(path, place)
    script = f'set -eu\nheadwater() {{ "{sys.executable}" -m headwater.cli "$@"; }}\n{text}'
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    path = f"{program('pg_dump').parent}:{os.environ['PATH']}"
    given = {**environ, "PATH": path, "PGPASSWORD": PASSWORD, **variables}
    return subprocess.run(["bash", "-c", script], cwd=tmp_path, env=given, capture_output=True, text=True, timeout=200)


def test_a_backup_of_files_is_restored(data_dir: Path, tmp_path: Path) -> None:
    done = type_in(block("headwater backup"), tmp_path, HEADWATER_DATA_DIR=str(data_dir))
    assert done.returncode == 0, done.stderr
    assert {path.name for path in data_dir.glob("*.db")} <= {path.name for path in (tmp_path / "restored").iterdir()}


def test_an_installation_on_postgresql_is_backed_up_and_restored(
    postgresql_server: PostgresqlServer, databases: tuple[str, str], data_dir: Path, tmp_path: Path
) -> None:
    """A restore into a database that has an installation fails, and changes nothing."""
    first, second = databases
    moving = block("export HEADWATER_DATABASE_URL").splitlines()[1].replace("~/headwater", str(data_dir))
    moved = type_in(moving, tmp_path, HEADWATER_DATABASE_URL=first)
    assert moved.returncode == 0, moved.stderr
    counted = block("SELECT application_name").replace("LIKE 'headwater %'", "IS NOT NULL")
    assert postgresql_server.administer(counted) is not None

    settings = {"HEADWATER_DATA_DIR": str(data_dir), "HEADWATER_DATABASE_URL": first}
    done = type_in(block("pg_dump"), tmp_path, DATABASE=libpq(first), **settings)
    assert done.returncode == 0, done.stderr
    before = rows(postgresql_server.dump(first))
    again = type_in(block("pg_restore"), tmp_path, EMPTY_DATABASE=libpq(first))
    assert again.returncode != 0 and "already exists" in again.stderr
    assert not (tmp_path / "restored").exists()
    assert rows(postgresql_server.dump(first)) == before

    done = type_in(block("pg_restore"), tmp_path, EMPTY_DATABASE=libpq(second))
    assert done.returncode == 0, done.stderr
    assert rows(postgresql_server.dump(second)) == before
    assert (tmp_path / "restored" / "lock").exists()


def libpq(url: str) -> str:
    return url.replace("+asyncpg", "")


def rows(dump: bytes) -> list[bytes]:
    """Return the lines of a dump, without those of indexes, whose conditions are printed in another form after a
    restore, and the word that pg_dump chooses for each dump."""
    return [
        line for line in dump.splitlines() if not line.startswith((b"\\restrict", b"\\unrestrict", b"CREATE UNIQUE"))
    ]
