"""The main function of child processes of the supervisor: settings, logs, signals, heartbeat and exit status."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

from headwater.base.errors import Unavailable, UnusableDatabase
from headwater.base.startup import add_reporter
from headwater.server.errors import StartupError
from headwater.server.logging import configure, log_from_loop, logger, safe_text
from headwater.server.processes import BEAT, HEARTBEAT_SECONDS, HEARTBEAT_VARIABLE, PROGRESS
from headwater.server.settings import Settings, read

COLLECT_AFTER = 100_000
"""Number of allocated objects that starts a garbage collection of cycles.

A batch of events allocates some ten thousand, which reference counting frees. With Python's default of 700, collections
would take a tenth of the time.
"""

Main = Callable[[Settings, asyncio.Event], Awaitable[None]]


def run(
    name: str,
    main: Main,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run `main` until it returns. SIGTERM and SIGINT set its event; it then completes the work in progress.

    A failure is logged and the exit status is 1. The last line on standard error states the reason, for the supervisor.
    """
    os.umask(0o077)
    gc.freeze()  # imported modules stay in memory, so the collector can skip them
    gc.set_threshold(COLLECT_AFTER)
    add_reporter(report_start)
    try:
        settings = read(os.environ)
        configure(name, settings.log_level, settings.log_format)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_until_signalled(main, settings))
    except (StartupError, UnusableDatabase) as error:
        sys.exit(str(error))
    except Unavailable as error:
        logger().critical("the process failed", exc_info=True)
        sys.exit(error.message)
    except Exception as error:
        logger().critical("the process failed", exc_info=True)
        sys.exit(safe_text(error).splitlines()[0])


def report_start() -> None:
    """Tell the supervisor that the start-up goes on."""
    if (number := os.environ.get(HEARTBEAT_VARIABLE)) is not None:
        with contextlib.suppress(OSError):
            os.write(int(number), PROGRESS)


@contextlib.asynccontextmanager
async def heartbeat() -> AsyncIterator[None]:
    """Send heartbeats to the supervisor until the context ends. Enter it when the start-up is complete.

    Does nothing in a process that the supervisor does not watch.
    """
    number = os.environ.pop(HEARTBEAT_VARIABLE, None)
    if number is None:
        yield
        return
    pipe = int(number)
    os.set_inheritable(pipe, False)
    os.set_blocking(pipe, False)
    beating = asyncio.create_task(_beat(pipe))
    try:
        yield
    finally:
        beating.cancel()
        await asyncio.gather(beating, return_exceptions=True)


async def _beat(pipe: int) -> None:
    while True:
        with contextlib.suppress(OSError):  # the pipe is full, or the supervisor has ended
            os.write(pipe, BEAT)
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _until_signalled(main: Main, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_from_loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(settings, stop)
