"""A system whose kernel cannot confine sandboxes: functions run with a warning, or the server does not start."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.system import free_port

pytestmark = pytest.mark.skipif(platform.machine() != "x86_64", reason="the test's own filter is for x86-64")

REFUSED: Final = f"""
import ctypes, os, struct, sys
def instruction(code, operand, yes=0, no=0):
    return struct.pack("HBBI", code, yes, no, operand)
PRCTL, PR_SET_SECCOMP = 157, 22
instructions = [
    instruction(0x20, 0), instruction(0x15, PRCTL, 0, 3),
    instruction(0x20, 16), instruction(0x15, PR_SET_SECCOMP, 0, 1),
    instruction(0x06, 0x00050001), instruction(0x06, 0x7FFF0000),
]
buffer = ctypes.create_string_buffer(b"".join(instructions))
program = struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(buffer))
libc = ctypes.CDLL(None)
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(PR_SET_SECCOMP, 2, program, 0, 0) == 0
os.execv({sys.executable!r}, [{sys.executable!r}, *sys.argv[1:]])
"""
"""Runs Python with these arguments on a kernel that rejects filters of system calls from now on."""

FUNCTIONS: Final = """
import asyncio
from headwater.server.logging import configure
from headwater.transforms.functions import Runner
from tests.transforms.functions.make import IDENTITY, USER, function

async def main():
    configure("test", "info", "json")
    for _ in range(2):
        async with Runner(javascript=1, python=1) as runner:
            for language in ("JavaScript", "Python"):
                assert await runner.run(function(language, IDENTITY[language]), [{"id": 1}], USER, USER) == [{"id": 1}]

asyncio.run(main())
"""


def _run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", REFUSED, *arguments]
    return subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=120)


def test_functions_run_and_each_process_warns_once_for_each_language() -> None:
    run = _run("-c", FUNCTIONS)
    assert run.returncode == 0, run.stderr
    lines = [json.loads(line) for line in run.stderr.splitlines()]
    assert [(line["level"], line["language"], line["missing"]) for line in lines] == [
        ("warning", "JavaScript", ["system calls (seccomp)"]),
        ("warning", "Python", ["system calls (seccomp)"]),
    ]


def test_a_server_that_requires_confinement_does_not_start(tmp_path: Path) -> None:
    run = _run(
        *("-m", "headwater.cli", "serve", "--data-dir", str(tmp_path / "data"), "--port", str(free_port())),
        HEADWATER_SANDBOX="require",
    )
    assert run.returncode == 1
    assert run.stderr.startswith("headwater: HEADWATER_SANDBOX is require, but the sandboxes of functions cannot be")
    assert "JavaScript" in run.stderr and "Python" in run.stderr and "seccomp" in run.stderr
    assert len(run.stderr.splitlines()) == 1


def test_a_system_that_can_confine_passes_the_check() -> None:
    command = [sys.executable, "-m", "headwater.server.sandboxes"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (run.returncode, run.stderr) == (0, "")
