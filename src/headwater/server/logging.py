"""Structured logs on standard error: JSON lines, or readable text in a terminal.

Every line has the name of its process. Lines of a request have its `request_id`, which `structlog.contextvars` binds.
Values under the names of secrets are replaced.

No line contains data of events. An exception is logged with its type and the places in the code, without its text and
without variables: texts of database and decoder errors repeat values. Only exceptions in SAFE_EXCEPTIONS are logged
with their text. Messages of libraries are logged without their arguments.
"""

import asyncio
import logging
import sys
import threading
from collections.abc import Iterator, MutableMapping
from types import TracebackType
from typing import Any, Final

import structlog

from headwater.server.errors import StartupError

SECRET_NAMES = frozenset(
    {"api_key", "authorization", "password", "secret", "secret_key", "settings", "token", "write_key"}
)
SAFE_EXCEPTIONS: Final = (OSError, ImportError, StartupError)
"""Exceptions whose text is about the system: files, addresses, modules and settings."""

MAX_FRAMES: Final = 50
"""Maximum depth of a logged traceback. The innermost calls are kept."""
MAX_EXCEPTIONS: Final = 20
"""Maximum number of logged exceptions of a chain: causes, contexts and members of groups."""


def configure(process: str, level: str, log_format: str) -> None:
    """Set up the logs of this process; `level` and `log_format` are those of Settings."""
    threshold = logging.getLevelNamesMapping()[level.upper()]
    is_json = log_format == "json"
    renderer: structlog.typing.Processor
    renderer = structlog.processors.JSONRenderer() if is_json else structlog.dev.ConsoleRenderer()

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
            _describe_exception if is_json else _print_exception,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=max(threshold, logging.WARNING), format="%(message)s", handlers=[_Relay()], force=True)
    sys.excepthook = _log_uncaught
    sys.unraisablehook = lambda hook: _log_uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)
    threading.excepthook = lambda hook: _log_uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


def logger() -> structlog.typing.FilteringBoundLogger:
    """Return the logger of this process."""
    log: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return log


def _redact(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name in SECRET_NAMES & event.keys():
        event[name] = "[REDACTED]"
    return event


def describe(error: BaseException) -> list[dict[str, Any]]:
    """Return the loggable parts of an exception and of its causes: types, places in the code, and texts that are
    safe."""
    return [_description(each) for each in _chain(error)]


def safe_text(error: BaseException) -> str:
    """Return the type of an exception, with its text if it is in SAFE_EXCEPTIONS."""
    name = type(error).__name__
    return f"{name}: {error}" if isinstance(error, SAFE_EXCEPTIONS) else name


def log_from_loop(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an error that an event loop reports, such as an unretrieved exception of a task. It is an exception
    handler."""
    error = context.get("exception")
    exc_info = (type(error), error, error.__traceback__) if isinstance(error, BaseException) else None
    logger().error("the event loop reports an error", exc_info=exc_info)


def _description(error: BaseException) -> dict[str, Any]:
    code = [(frame.f_code, line) for frame, line in _walk(error.__traceback__)][-MAX_FRAMES:]
    described: dict[str, Any] = {
        "exc_type": type(error).__name__,
        "frames": [{"filename": it.co_filename, "lineno": line, "name": it.co_name} for it, line in code],
    }
    if isinstance(error, SAFE_EXCEPTIONS):
        described["exc_value"] = str(error)
    return described


def _walk(traceback: TracebackType | None) -> Iterator[tuple[Any, int]]:
    while traceback is not None:
        yield traceback.tb_frame, traceback.tb_lineno
        traceback = traceback.tb_next


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield the exception, then the members of a group, its cause or its context, each once."""
    pending, seen = [error], set[int]()
    while pending and len(seen) < MAX_EXCEPTIONS:
        each = pending.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        if isinstance(each, BaseExceptionGroup):
            pending.extend(each.exceptions)
        if each.__cause__ is not None:
            pending.append(each.__cause__)
        elif each.__context__ is not None and not each.__suppress_context__:
            pending.append(each.__context__)


def _find_exception(exc_info: Any) -> BaseException | None:
    if isinstance(exc_info, BaseException):
        return exc_info
    if isinstance(exc_info, tuple):
        return exc_info[1] if isinstance(exc_info[1], BaseException) else None
    return sys.exc_info()[1] if exc_info else None


def _describe_exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    error = _find_exception(event.pop("exc_info", None))
    if error is not None:
        event["exception"] = describe(error)
    return event


def _print_exception(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Describe an exception as lines that the console renderer prints below the event."""
    error = _find_exception(event.pop("exc_info", None))
    if error is not None:
        event["exception"] = "\n".join(
            line
            for each in describe(error)
            for line in (
                f"{each['exc_type']}: {each['exc_value']}" if "exc_value" in each else each["exc_type"],
                *(f'  File "{at["filename"]}", line {at["lineno"]}, in {at["name"]}' for at in each["frames"]),
            )
        )
    return event


def _log_uncaught(type_: type[BaseException], error: BaseException | None, traceback: TracebackType | None) -> None:
    if error is not None and not isinstance(error, KeyboardInterrupt):
        logger().critical("an exception was not caught", exc_info=(type_, error, traceback))


class _Relay(logging.Handler):
    """Passes messages of the standard `logging` to structlog, from warnings upwards.

    Only the first line is logged, without its arguments, which may be data.
    """

    def emit(self, record: logging.LogRecord) -> None:
        message = str(record.msg).partition("\n")[0]
        logger().log(record.levelno, message, library=record.name, exc_info=record.exc_info or None)
