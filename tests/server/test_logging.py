import json
import subprocess
import sys

import pytest

PROGRAM = """
import logging, structlog
from headwater.server.logging import configure, logger
configure("backend", {level!r}, {log_format!r})
structlog.contextvars.bind_contextvars(request_id="r-1")
logger().debug("quiet")
logger().info("stored", events=3, api_key="api_secret", token="t")
logging.getLogger("library").warning("careful")
try:
    password = "p4ssw0rd".upper().lower()
    1 / len(password[:0])
except ZeroDivisionError:
    logger().error("failed", exc_info=True)
"""


def _lines(level: str, log_format: str) -> list[str]:
    command = [sys.executable, "-c", PROGRAM.format(level=level, log_format=log_format)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stderr.splitlines()


def test_json_lines_carry_level_time_process_and_request() -> None:
    stored, careful, failed = (json.loads(line) for line in _lines("info", "json"))
    assert stored["event"] == "stored"
    assert (stored["level"], stored["process"], stored["request_id"], stored["events"]) == ("info", "backend", "r-1", 3)
    assert stored["timestamp"].endswith("Z")
    assert (careful["event"], careful["level"], careful["library"]) == ("careful", "warning", "library")
    assert failed["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_secrets_are_replaced() -> None:
    stored = json.loads(_lines("info", "json")[0])
    assert (stored["api_key"], stored["token"]) == ("[REDACTED]", "[REDACTED]")


def test_a_traceback_holds_no_variables() -> None:
    for log_format in ("json", "text"):
        lines = "\n".join(_lines("info", log_format))
        assert "ZeroDivisionError" in lines
        assert "p4ssw0rd" not in lines


DATA = "ada.lovelace@private.example"
LEAKS = {
    "the exception itself": "raise ValueError(DATA)",
    "its cause": "raise RuntimeError from ValueError(DATA)",
    "its context": "try:\n        int(DATA)\n    except ValueError:\n        raise RuntimeError",
    "its notes": "error = ValueError()\n    error.add_note(DATA)\n    raise error",
    "a group": "raise ExceptionGroup(DATA, [ValueError(DATA), KeyError(DATA)])",
    "a syntax error": "compile('a = (' + repr(DATA), 'x', 'exec')",
    "a database error": "sqlite3.connect(':memory:').execute(f'select \"{DATA}\"(1)')",
}
FAILING = """
import sqlite3, sys
from headwater.server.logging import configure, logger
configure("worker", "debug", sys.argv[1])
DATA = {data!r}
try:
    {leak}
except Exception:
    logger().exception("failed")
"""


@pytest.mark.parametrize("log_format", ["json", "text"])
@pytest.mark.parametrize("leak", LEAKS)
def test_the_text_of_an_exception_is_not_logged(leak: str, log_format: str) -> None:
    program = FAILING.format(data=DATA, leak=LEAKS[leak])
    run = subprocess.run([sys.executable, "-c", program, log_format], check=True, capture_output=True, text=True)
    assert "failed" in run.stderr and "Error" in run.stderr
    assert "private" not in run.stderr + run.stdout


UNCAUGHT = {
    "in the main thread": "raise ValueError(DATA)",
    "in a thread": "t = threading.Thread(target=int, args=(DATA,)); t.start(); t.join()",
    "in a destructor": "class A:\n    def __del__(self): int(DATA)\nA()",
    "in a task": "asyncio.run(loop(lambda: asyncio.ensure_future(fail(DATA))))",
    "in a callback": "asyncio.run(loop(lambda: asyncio.get_running_loop().call_soon(int, DATA)))",
    "of a library": "logging.getLogger('x').error('cannot read %s', DATA)",
    "of a library, with a text of many lines": "logging.getLogger('x').error('cannot read\\n' + DATA)",
}
PROGRAM_UNCAUGHT = """
import asyncio, gc, logging, threading
from headwater.server.logging import configure, log_from_loop, logger
configure("worker", "debug", "json")
DATA = {data!r}
async def fail(data):
    raise ValueError(data)
async def loop(begin):
    asyncio.get_running_loop().set_exception_handler(log_from_loop)
    begin()
    await asyncio.sleep(0.01)
    gc.collect()
{leak}
"""


@pytest.mark.parametrize("leak", UNCAUGHT)
def test_an_exception_that_nobody_catches_is_logged_without_its_text(leak: str) -> None:
    program = PROGRAM_UNCAUGHT.format(data=DATA, leak=UNCAUGHT[leak])
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    (line,) = run.stderr.splitlines()
    described = json.loads(line)
    assert "private" not in line
    if "library" not in leak:
        assert described["exception"][0]["exc_type"] == "ValueError"


def test_texts_about_the_system_are_logged() -> None:
    program = FAILING.format(data=DATA, leak="open('/does/not/exist')")
    run = subprocess.run([sys.executable, "-c", program, "json"], check=True, capture_output=True, text=True)
    (exception,) = json.loads(run.stderr)["exception"]
    assert exception["exc_value"] == "[Errno 2] No such file or directory: '/does/not/exist'"
    assert exception["frames"][0]["name"] == "<module>"


def test_text_is_for_people() -> None:
    lines = _lines("debug", "text")
    assert "quiet" in lines[0]
    assert "stored" in lines[1]
    assert "api_secret" not in "\n".join(lines)


def test_the_level_is_a_threshold() -> None:
    assert [json.loads(line)["event"] for line in _lines("error", "json")] == ["failed"]
