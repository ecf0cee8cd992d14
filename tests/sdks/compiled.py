"""The SDKs of Go: compiles and runs the programs of docs/sdks.md in a folder of their own."""

import os
import subprocess
from pathlib import Path
from typing import Final

from tests.clients import blocks
from tests.sdks.snippets import INSTALLATIONS, program

GO_PACKAGES: Final = ("github.com/segmentio/analytics-go/v3", "github.com/rudderlabs/analytics-go/v4")
TOOLCHAINS: Final = dict.fromkeys(GO_PACKAGES, blocks.GO)
COMPILE_TIMEOUT_SECONDS: Final = 900


def run_example(package: str, key: str, address: str, folder: Path) -> None:
    """Install the SDK in an empty folder, and run its program.

    Raises RegistryUnreachable if the SDK cannot be installed.
    """
    _run(INSTALLATIONS[package], folder)
    (folder / "main.go").write_text(program(package, key, address))
    _run("go run .", folder)


def _run(commands: str, folder: Path) -> None:
    done = subprocess.run(
        ["bash", "-euc", commands],
        cwd=folder,
        env={**os.environ, "no_proxy": "127.0.0.1"},
        capture_output=True,
        text=True,
        timeout=COMPILE_TIMEOUT_SECONDS,
    )
    if done.returncode != 0:
        blocks.raise_if_unreachable(folder.name, done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
