"""The blocks of docs/clients.md: commands that a reader types, and excerpts of the programs in examples/."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "clients.md"
_TEXT: Final = PAGE.read_text()
COMMANDS: Final[dict[str, str]] = dict(re.findall(r"<!-- tested: (\S+) -->\n```sh\n(.*?)```", _TEXT, re.DOTALL))
"""Commands by the name of the client. They start in the folder of the checkout."""
EXCERPTS: Final[list[tuple[str, str]]] = re.findall(r"<!-- from: (\S+) -->\n```\w+\n(.*?)```", _TEXT, re.DOTALL)
"""The path of a program, and a part of it."""


@dataclass(frozen=True)
class Toolchain:
    """Programs that the commands of a client start."""

    programs: tuple[str, ...]
    install: str
    """The programs to install, for people."""
    is_slow: bool = False
    """Whether it compiles for more than 20 seconds of CPU time: tested with HEADWATER_CLIENTS=all only."""


_PYTHON: Final = Toolchain((), "")
_NODE: Final = Toolchain(("node", "npm"), "Node.js 20 or newer with npm")
GO: Final = Toolchain(("go",), "Go 1.26 or newer", is_slow=True)
JAVA: Final = Toolchain(("java", "mvn"), "a JDK 17 or newer and Maven", is_slow=True)
RUST: Final = Toolchain(("cargo",), "Rust 1.88 or newer with cargo", is_slow=True)
TOOLCHAINS: Final = {
    "python": _PYTHON,
    "python-asyncio": _PYTHON,
    "python-dataclasses": _PYTHON,
    "openapi-python-client": _PYTHON,
    "node": _NODE,
    "grpc-js": _NODE,
    "browser": _NODE,
    "openapi-typescript": _NODE,
    "go": GO,
    "grpcurl": GO,
    "java": JAVA,
    "openapi-generator": JAVA,
    "rust": RUST,
}
_UNREACHABLE: Final = re.compile(
    r"npm error (?:code E\w+|network)|dial tcp: lookup|Could not (?:transfer artifact|resolve host)|failed to download"
)
"""Errors of package managers that do not reach their registry."""


class RegistryUnreachable(Exception):
    """Packages that a client needs cannot be installed."""


def missing(client: str, toolchain: Toolchain | None = None) -> str | None:
    """Return the reason why a client cannot be tested here; None if it can."""
    toolchain = toolchain or TOOLCHAINS[client]
    if absent := [program for program in toolchain.programs if shutil.which(program) is None]:
        return f"the client {client} is not tested without {' and '.join(absent)}: install {toolchain.install}"
    if toolchain.is_slow and os.environ.get("HEADWATER_CLIENTS") != "all":
        return f"the client {client} compiles for minutes: set HEADWATER_CLIENTS=all (make test-clients)"
    return None


def raise_if_unreachable(client: str, output: str) -> None:
    """Raise RegistryUnreachable if the output of a failed command says that packages cannot be installed."""
    if found := _UNREACHABLE.search(output):
        raise RegistryUnreachable(f"the client {client} is not tested: its packages cannot be installed ({found[0]})")


def commands(client: str) -> str:
    """Return the commands as a script for this environment, which has the packages that a reader installs with pip."""
    text = re.sub(r"^\.venv/bin/pip install .*\n", "", COMMANDS[client], flags=re.MULTILINE)
    return "set -eu\n" + text.replace(".venv/bin/python", sys.executable)


def run(client: str, address: str, key: str, timeout_seconds: float) -> str:
    """Run the commands of a client, and return their output. Fails with their errors if they fail.

    Raises RegistryUnreachable if they cannot install packages.
    """
    tools = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "URL": address,
        "KEY": key,
        "no_proxy": "127.0.0.1",
    }
    with _alone(client):
        done = subprocess.run(
            ["bash", "-c", commands(client)],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
        )
    if done.returncode != 0:
        raise_if_unreachable(client, done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return done.stdout


@contextmanager
def _alone(client: str) -> Iterator[None]:
    """Keep other processes that run tests out of the folder in which the commands install and generate."""
    folder = re.search(r"^cd (\S+)$", COMMANDS[client], re.MULTILINE)
    with (ROOT / (folder[1] if folder else "examples")).joinpath(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
