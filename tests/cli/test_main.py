import os
import subprocess
import sys

import pytest

from headwater.cli.main import main
from tests.system import HEADWATER


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int | str | None, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    status, output, _ = _run(capsys, "--version")
    assert status == 0
    assert output.startswith("headwater 0.")


def test_help_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    status, output, _ = _run(capsys, "serve", "--help")
    assert status == 0
    for name in ("HOST", "PORT", "DATA_DIR", "DATABASE_URL", "BACKENDS", "API_KEY", "SECRET_KEY", "LOG_LEVEL"):
        assert f"HEADWATER_{name}" in output


@pytest.mark.parametrize("arguments", [(), ("fly",), ("serve", "--porpoise", "1"), ("serve", "--port")])
def test_wrong_usage_exits_2_with_the_usage(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]) -> None:
    status, _, errors = _run(capsys, *arguments)
    assert status == 2
    assert errors.startswith("usage: headwater")


def test_a_wrong_flag_value_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, _ = _run(capsys, "serve", "--port", "none")
    assert status == "headwater: HEADWATER_PORT must be a number from 1 to 65535, not 'none'"


@pytest.mark.process
def test_a_reader_that_ends_early_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([*HEADWATER, "settings"], stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.process
def test_a_command_imports_no_library_that_it_does_not_need() -> None:
    script = "import sys, headwater.cli.main; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert not {"grpc", "google", "http", "msgspec", "sqlalchemy", "structlog"} & set(done.stdout.split())
