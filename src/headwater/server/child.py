"""How a child process of the supervisor begins and ends: settings, logs, signals, exit status."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Awaitable, Callable

from headwater.base.database import UnusableDatabase
from headwater.server.errors import StartupError
from headwater.server.logging import configure, logger
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

    A failure is logged, its text is the last line on standard error (the supervisor shows it), and the status is 1.
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
        sys.exit(f"{type(error).__name__}: {error}".splitlines()[0])


async def _until_signalled(main: Main, settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await main(settings, stop)
