"""Four people follow the documentation in a fresh clone: each types the blocks of their pages and sees what they state.

`make test-walks` runs them. They need the package registry, and some minutes.
"""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.system import HTTP, free_port, wait_until

ROOT: Final = Path(__file__).parents[2]
IS_WANTED: Final = os.environ.get("HEADWATER_WALKS") == "all"
INSTALL_SECONDS: Final = 900
STEP_SECONDS: Final = 300

pytestmark = [
    pytest.mark.skipif(not IS_WANTED, reason="HEADWATER_WALKS=all walks through the documentation in a fresh clone"),
    pytest.mark.timeout(INSTALL_SECONDS + STEP_SECONDS),
]


@dataclass(frozen=True)
class Clone:
    """A fresh clone whose server was started with `make run`."""

    folder: Path
    url: str
    variables: dict[str, str]

    def type(self, *blocks: str) -> str:
        """Run blocks in one shell in the clone, as a person types them, and return what they print."""
        script = "\n".join(blocks).replace("http://127.0.0.1:8080", self.url).replace("127.0.0.1:8080", self.url[7:])
        script = script.replace("sleep 1\n", "sleep 3\n")  # a machine that runs tests is slower
        done = subprocess.run(
            ["bash", "-c", f"set -eu\n{script}"],
            cwd=self.folder,
            env=self.variables,
            capture_output=True,
            text=True,
            timeout=STEP_SECONDS,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def blocks(self, page: str, marker: str = "tested") -> list[str]:
        """Return the marked shell blocks of a page, and those in Python as commands of the environment of the clone."""
        pattern = rf"<!-- {re.escape(marker)} -->\n```(sh|python)\n(.*?)```"
        found = re.findall(pattern, (self.folder / page).read_text(), re.DOTALL)
        assert found, f"{page} has no block that is marked as {marker}"
        return [text if kind == "sh" else f".venv/bin/python - <<'END'\n{text}END\n" for kind, text in found]


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clone]:
    folder = tmp_path_factory.mktemp("walk") / "headwater"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=120)
    port = free_port()
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "LANG") if name in os.environ}
    kept |= {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_", "UV_", "NPM_"))}
    with (folder.parent / "output.txt").open("wb") as output:
        server = subprocess.Popen(
            ["make", "run"],
            cwd=folder,
            env={**kept, "HEADWATER_PORT": str(port)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    printed = folder.parent / "output.txt"
    try:
        wait_until(lambda: server.poll() is not None or "is ready" in printed.read_text(), INSTALL_SECONDS)
        assert server.poll() is None, printed.read_text()
        yield Clone(folder, f"http://127.0.0.1:{port}", {**kept, "HEADWATER_PORT": str(port)})
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(60)


@pytest.fixture(scope="module")
def first_steps(clone: Clone) -> str:
    """Return what the first block of README.md prints, which everybody types first."""
    return clone.type(clone.blocks("README.md")[0])


def test_a_user_of_an_sdk_sends_events_and_finds_them(clone: Clone, first_steps: str) -> None:
    assert "Order Completed" in first_steps
    [client] = re.findall(
        r"<!-- tested: segment-analytics-python -->\n```python\n(.*?)```",
        (clone.folder / "docs/sdks.md").read_text(),
        re.DOTALL,
    )
    python = client.replace('"u1"', '"grace"')
    printed = clone.type(
        clone.blocks("README.md")[0],
        ".venv/bin/python -m pip install --quiet segment-analytics-python",
        f".venv/bin/python - <<END\n{python.replace('WRITE_KEY', '$WRITE_KEY')}END",
        "sleep 1\n" + 'api "$URL/v1/events?userId=grace"',
    )
    assert '"grace"' in printed and "Order Completed" in printed


def test_a_developer_of_a_typed_client_uses_the_stubs(clone: Clone, first_steps: str) -> None:
    setup = 'export URL=http://127.0.0.1:8080 KEY=$(cat "${HEADWATER_DATA_DIR:-data}/api-key")'
    assert setup in (clone.folder / "docs/clients.md").read_text()
    assert "read 100 events" in clone.type(setup, *clone.blocks("docs/clients.md", "tested: python"))


def test_an_operator_checks_names_and_keys(clone: Clone, first_steps: str) -> None:
    command = 'headwater() { .venv/bin/headwater "$@"; }'
    checked = clone.type(command, "headwater doctor", "headwater health", "headwater settings --changed")
    assert "is healthy" in checked and "HEADWATER_PORT" in checked
    made = clone.type(command, 'headwater keys create "Nightly export" --url http://127.0.0.1:8080')
    assert made.strip().startswith("api_")
    assert HTTP.get(f"{clone.url}/v1/connections", headers={"authorization": f"Bearer {made.strip()}"}).json()


def test_an_analyst_exports_events_and_counts_them(clone: Clone, first_steps: str) -> None:
    printed = clone.type(
        ".venv/bin/python -m pip install --quiet pyarrow duckdb",
        ".venv/bin/headwater events export --parquet exported",
        '.venv/bin/python -c "import duckdb; print(duckdb.sql(\\"SELECT event, count(*) AS n FROM '
        "read_parquet('exported/*/*/events.parquet') GROUP BY ALL ORDER BY ALL\\\"))\"",
    )
    assert "Order Completed" in printed
