"""How a child process of the supervisor begins and ends: settings, logs, signals, exit status."""

import asyncio
import contextlib
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable

from headwater.base.errors import UnusableDatabase
from headwater.server.errors import StartupError
from headwater.server.logging import configure, log_from_loop, logger, safe_text
from headwater.server.processes import HEARTBEAT_SECONDS, HEARTBEAT_VARIABLE
from headwater.server.settings import Settings, read

COLLECT_AFTER = 100_000
"""Objects between two looks for garbage in cycles. A batch of events makes some ten thousand, which all go with it: to
look among them every 700, as Python does, is a tenth of the work."""

Main = Callable[[Settings, asyncio.Event], Awaitable[None]]


def run(
    name: str,
    main: Main,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> None:
    """Run `main` until it returns; SIGTERM and SIGINT set its event, and it is to finish what it has begun.

    A failure is logged, the last line on standard error says what it was (the supervisor shows it), the status is 1.
    """
    os.umask(0o077)
    gc.freeze()  # what the imports made stays, and need not be looked at again and again
    gc.set_threshold(COLLECT_AFTER)
    try:
        settings = read(os.environ)
        configure(name, settings.log_level, settings.log_format)
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(_until_signalled(main, settings))
    except (StartupError, UnusableDatabase) as error:
        sys.exit(str(error))
    except Exception as error:
        logger().critical("the process failed", exc_info=True)
        sys.exit(safe_text(error).splitlines()[0])


@contextlib.asynccontextmanager
async def heartbeat() -> AsyncIterator[None]:
    """Show the supervisor that this event loop runs, until the context ends. Enter it when the start-up is done.

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
        with contextlib.suppress(OSError):  # the supervisor reads later, or has gone
            os.write(pipe, b".")
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _until_signalled(main: Main, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(log_from_loop)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(settings, stop)
