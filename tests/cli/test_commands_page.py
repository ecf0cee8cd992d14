"""docs/commands.md is correct: its blocks that are marked as tested run, in their order, against a running system."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.system import RunningSystem

PAGE: Final = (Path(__file__).parents[2] / "docs" / "commands.md").read_text()
BLOCK: Final = re.compile(r"<!-- tested -->\n```sh\n(.*?)```", re.DOTALL)
EXPECTED: Final = (
    "Order Completed",
    "Processed",
    '"messageId":"c2"',  # the watched event
    "exit status 1",
    " ok, ",  # the summary of doctor
)


@pytest.mark.timeout(180)
def test_the_blocks_run_with_the_documented_output(system: RunningSystem, tmp_path: Path) -> None:
    code = "\n".join(BLOCK.findall(PAGE)).replace("sleep 1", "sleep 3").replace("sleep 2", "sleep 5")
    script = f'headwater() {{ "{sys.executable}" -m headwater.cli "$@"; }}\nset -eu\n{code}'
    environ = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    environ |= {
        "HEADWATER_URL": system.base_url,
        "HEADWATER_API_KEY": system.api_key,
        "HEADWATER_DATA_DIR": str(system.data_dir),
        "HEADWATER_PORT": str(system.port),
    }
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, timeout=170, env=environ, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [text for text in EXPECTED if text not in done.stdout] == [], done.stdout + done.stderr
    assert "headwater: NotFound: connection 7 does not exist" in done.stderr
