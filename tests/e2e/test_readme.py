"""The README is correct: its blocks that are marked as tested run, in their order, against the running system."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.system import RunningSystem, start

README = Path(__file__).resolve().parents[2] / "README.md"
FUNCTIONS = README.parent / "docs" / "functions.md"
BLOCK = re.compile(r"<!-- tested -->\n```(sh|python)\n(.*?)```", re.DOTALL)
EXPECTED = [
    "Order Completed",  # the events of curl are listed
    '"outcome":"Processed"',  # and traced
    '"userId":"ada"',
    '"total":1',  # one person so far
    "StatusCode.NOT_FOUND connection 7 does not exist",  # one user so far
    "1 accepted",  # the asynchronous one
    '"counts":[{',  # events by name and day
    '"attributes":{"email":"ada@example.com","first_name":"Ada","plan":"pro"}',  # two users are one person
    '"identifier":"email","value":"ada@example.com"',  # because of this
    '"passed":[1,1,0,1,1,1]',  # the run sends the profile
    '"connectorType": "SDK"',  # the dataclasses
]


def make_script(system: RunningSystem) -> str:
    """Return all tested blocks as one shell session, with this system's address and this interpreter."""
    blocks = BLOCK.findall(README.read_text())
    text = "\n".join(
        code if language == "sh" else f"{sys.executable} - <<'PYTHON'\n{code}PYTHON\n" for language, code in blocks
    )
    # The environment of the tests is complete, and a machine that runs tests is slower than a user's.
    text = re.sub(r"^\.venv/bin/pip install .*\n", "", text, flags=re.MULTILINE)
    # Only at the start of a line: the path of this interpreter may have the same words.
    text = re.sub(r"^\.venv/bin/python", sys.executable, text, flags=re.MULTILINE)
    replaced = {
        "127.0.0.1:8080": f"127.0.0.1:{system.port}",
        "sleep 1": "sleep 3",
    }
    for written, meant in replaced.items():
        assert written in text, written
        text = text.replace(written, meant)
    return f"set -eu\n{text}"


def test_there_are_blocks_of_both_languages() -> None:
    assert {language for language, _ in BLOCK.findall(README.read_text())} == {"sh", "python"}


def run(script: str, data_dir: Path) -> subprocess.CompletedProcess[str]:
    """Run a shell session of a user who has set HEADWATER_DATA_DIR."""
    environment = {**os.environ, "HEADWATER_DATA_DIR": str(data_dir)}
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=100, env=environment)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[RunningSystem]:
    """Start a system for this test alone: the blocks give its workspace a profile schema."""
    running = start(tmp_path / "data")
    yield running
    assert running.stop() == 0, running.errors


@pytest.mark.timeout(120)
def test_the_blocks_run_with_the_documented_output(fresh: RunningSystem) -> None:
    done = run(make_script(fresh), fresh.data_dir)
    assert done.returncode == 0, done.stderr
    assert [text for text in EXPECTED if text not in done.stdout] == [], done.stdout + done.stderr


@pytest.mark.timeout(120)
def test_the_example_of_a_function_runs(system: RunningSystem) -> None:
    [(_, example)] = BLOCK.findall(FUNCTIONS.read_text())
    start = make_script(system).partition("\ncurl")[0]
    done = run(f"{start}\n{example.replace('sleep 1', 'sleep 5')}", system.data_dir)
    assert done.returncode == 0, done.stderr
    trace = json.loads(done.stdout.splitlines()[-1])["traces"][0]
    assert [step["outcome"] for step in trace["steps"]] == ["Passed"] * 3


@pytest.mark.timeout(120)
def test_an_error_is_not_taken_for_a_key(system: RunningSystem, tmp_path: Path) -> None:
    (tmp_path / "api-key").write_text("api_" + "x" * 40)
    script = make_script(system).removeprefix("set -eu\n").partition("\nsleep")[0]
    done = run(script, tmp_path)
    assert done.returncode != 0
    assert "the API key is not known" in done.stderr
    assert "ID: parameter null or not set" in done.stderr
    assert done.stdout == ""


def test_the_banner_has_the_same_commands(system: RunningSystem) -> None:
    _, block = BLOCK.findall(README.read_text())[0]
    written = [line for line in block.splitlines() if line and not line.startswith("#")]
    first, *printed = system.output.partition("export URL=")[2].rstrip("\n").splitlines()
    assert printed == written[1 : len(printed) + 1]
    assert written[len(printed)].startswith('api "$URL/v1/events"')
    assert first == f"{system.base_url} KEY=$(cat {system.data_dir / 'api-key'})"
