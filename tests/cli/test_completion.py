"""The completion scripts complete every command in real shells."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from headwater.cli.completion import bash, fish, zsh
from headwater.cli.table import COMMANDS, GROUPS
from tests.cli.running import Shell

TOP = {command.action for command in COMMANDS if not command.group} | set(GROUPS)


def find(shell: str) -> str:
    """Return the path of a shell. Skip the test if the machine has none."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed: apt-get install {shell}")
    return path


@pytest.mark.process
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("",), TOP | {"--help", "--version"}),
        (("ev",), {"events"}),
        (("events", ""), {command.action for command in COMMANDS if command.group == "events"}),
        (("events", "t"), {"tail", "trace"}),
        (("keys", "create", "--"), {"--workspace", "--every-workspace", "--read-only", "--url", "--data-dir"}),
        (("events", "list", "--type", "p"), {"page"}),
        (("connections", "create", "--role", ""), {"Source", "Destination"}),
        (("completion", ""), {"bash", "zsh", "fish", "--help"}),
        (("serve", "--p"), {"--port"}),
        (("runs", "start", "--no"), {"--no-incremental"}),
        (("events", "list", "--since", ""), set()),
        (("unknown", ""), set()),
    ],
)
def test_bash_completes(tmp_path: Path, words: tuple[str, ...], expected: set[str]) -> None:
    (tmp_path / "headwater.bash").write_text(bash())
    script = (
        'set -u; source "$1"; shift; COMP_WORDS=(headwater "$@"); COMP_CWORD=$#; _headwater; '
        'printf "%s\\n" ${COMPREPLY[@]+"${COMPREPLY[@]}"}'
    )
    command = [find("bash"), "--norc", "-c", script, "bash", str(tmp_path / "headwater.bash"), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    completed = set(done.stdout.split())
    assert completed >= expected
    assert len(expected) > 4 or completed == expected


@pytest.mark.process
@pytest.mark.parametrize(("shell", "script"), [("bash", bash), ("zsh", zsh), ("fish", fish)])
def test_a_script_is_valid(tmp_path: Path, shell: str, script: Callable[[], str]) -> None:
    (tmp_path / "script").write_text(script())
    subprocess.run([find(shell), "-n", str(tmp_path / "script")], check=True, timeout=30)


@pytest.mark.process
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("headwater ev", {"events"}),
        ("headwater events t", {"tail", "trace"}),
        ("headwater events list --type p", {"page"}),
        ("headwater completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_fish_completes(tmp_path: Path, line: str, expected: set[str]) -> None:
    (tmp_path / "headwater.fish").write_text(fish())
    command = [find("fish"), "-N", "-c", f"source {tmp_path}/headwater.fish; complete -C '{line}'"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    assert {each.split("\t")[0] for each in done.stdout.splitlines()} == expected


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_scripts_name_every_command(shell: Shell, name: str) -> None:
    script = shell.succeed("completion", name).output
    for command in COMMANDS:
        assert command.action in script
    assert "--workers" not in script, "earlier names are not completed"
