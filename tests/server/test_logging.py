import json
import subprocess
import sys

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


def test_text_is_for_people() -> None:
    lines = _lines("debug", "text")
    assert "quiet" in lines[0]
    assert "stored" in lines[1]
    assert "api_secret" not in "\n".join(lines)


def test_the_level_is_a_threshold() -> None:
    assert [json.loads(line)["event"] for line in _lines("error", "json")] == ["failed"]
