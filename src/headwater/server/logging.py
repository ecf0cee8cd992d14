"""Structured logs on standard error: JSON lines, or readable text for a person at a terminal.

Every line carries its process; lines written while a request is handled carry its `request_id`, bound with
`structlog.contextvars`. Values under the names of secrets are replaced, wherever they come from.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

SECRET_NAMES = frozenset(
    {"api_key", "authorization", "password", "secret", "secret_key", "settings", "token", "write_key"}
)
_TRACEBACKS = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
"""Without the variables of each frame: among them are passwords, keys and what people sent."""


def configure(process: str, level: str, log_format: str) -> None:
    """Set up the logs of this process; `level` and `log_format` are those of Settings."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    renderer: structlog.typing.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)

    def add_process(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["process"] = process
        return event

    structlog.configure(
        processors=[
            add_process,
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _redact,
            *([_TRACEBACKS] if log_format == "json" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(threshold, logging.WARNING), format="%(message)s", handlers=[_Relay()], force=True)


def logger() -> structlog.typing.FilteringBoundLogger:
    """The logger of this process."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in SECRET_NAMES & event.keys():
        event[name] = "[REDACTED]"
    return event


class _Relay(logging.Handler):
    """Passes what libraries write with the standard `logging` on to structlog, from warnings upwards."""

    def emit(self, record: logging.LogRecord) -> None:
        logger().log(record.levelno, record.getMessage(), library=record.name, exc_info=record.exc_info or None)
