"""The process that runs user JavaScript: `python -I -S worker.py CONFIGURATION`. One V8 isolate for each function.

It reads requests from its input and writes responses in order to its output, until the input ends (`frames`). It trusts
its parent and nothing that it runs. If it cannot stop a function (V8 out of memory, endless microtasks), its parent
kills it.
"""

import asyncio
import json
import os
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from py_mini_racer import CancelableJSFunction, MiniRacer

    from headwater.transforms.functions.confinement import process
    from headwater.transforms.functions.javascript.frames import (
        DONE,
        DROP,
        ERROR,
        LOAD,
        REQUEST,
        RESPONSE,
        SOURCE_NAME,
        TOO_MUCH,
        TOO_SLOW,
    )  # fmt: skip
else:
    # The package `headwater` would import the dependencies of its parts, which takes longer than everything else.
    sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    from confinement import process
    from frames import DONE, DROP, ERROR, LOAD, REQUEST, RESPONSE, SOURCE_NAME, TOO_MUCH, TOO_SLOW


class _Context:
    """A V8 isolate with one function. Its code runs on its own thread, and the event loop waits for it."""

    def __init__(self, memory: int) -> None:
        from py_mini_racer import mini_racer

        self._owner: AbstractContextManager[MiniRacer] = mini_racer()
        self._racer = self._owner.__enter__()
        self._racer.set_hard_memory_limit(memory)
        self._run: CancelableJSFunction | None = None

    async def load(self, runtime: str, source: str, max_output: int) -> bool:
        """Load the source. Return whether it has a function `transform`."""
        from py_mini_racer import JSFunction

        surround = self._racer.eval(runtime)
        await self._racer.eval_cancelable(f"{source}\n//# sourceURL={SOURCE_NAME}")
        transform = await self._racer.eval_cancelable('typeof transform === "function" ? transform : null')
        if not isinstance(transform, JSFunction):
            return False
        assert isinstance(surround, JSFunction)
        run = surround(transform, max_output)
        assert isinstance(run, JSFunction)
        self._run = run.cancelable()
        return True

    async def run(self, batch: str) -> str:
        assert self._run is not None
        # The call returns before its remaining microtasks have run; the second evaluation runs after them. If they
        # never end, neither does the evaluation, and the time limit applies.
        lines, _ = await asyncio.gather(self._run(batch), self._racer.eval_cancelable("0"))
        return str(lines)

    def close(self) -> None:
        self._owner.__exit__(None, None, None)


class _Worker:
    def __init__(self, configuration: dict[str, Any], memory: "process.Memory", runtime: str) -> None:
        self._memory = memory
        self._limit: int = configuration["memory"]
        self._max_output: int = configuration["output"]
        self._runtime = runtime
        self._contexts: dict[int, _Context] = {}

    async def serve(self, requests: BinaryIO, responses: BinaryIO, missing: tuple[str, ...]) -> None:
        """Serve one request after another. Reading blocks the event loop, which is idle then."""
        self._write(responses, DONE, " ".join(missing).encode())
        while len(header := requests.read(REQUEST.size)) == REQUEST.size:
            kind, number, seconds, length = REQUEST.unpack(header)
            payload = requests.read(length)
            if kind == DROP:
                self._contexts.pop(number).close()
                continue
            status, body = await self._respond(kind, number, seconds, payload)
            self._write(responses, status, body)

    def _write(self, responses: BinaryIO, status: int, body: bytes) -> None:
        responses.write(RESPONSE.pack(status, self._memory.held(), len(body)))
        responses.write(body)
        responses.flush()

    async def _respond(self, kind: int, number: int, seconds: float, payload: bytes) -> tuple[int, bytes]:
        from py_mini_racer import JSEvalException, JSOOMException, JSTimeoutException
        from py_mini_racer._exc import JSTerminatedException

        self._memory.bound(2 * self._limit)
        try:
            async with asyncio.timeout(seconds):
                if kind == LOAD:
                    return await self._load(number, json.loads(payload))
                return DONE, (await self._contexts[number].run(payload.decode())).encode(errors="replace")
        except (TimeoutError, JSTimeoutException):
            return TOO_SLOW, b""
        except (JSOOMException, JSTerminatedException, MemoryError):
            return TOO_MUCH, b""
        except JSEvalException as error:
            return ERROR, str(error)[:4000].encode(errors="replace")

    async def _load(self, number: int, program: dict[str, str]) -> tuple[int, bytes]:
        context = _Context(self._limit)
        runtime = self._runtime.replace("/*ADAPTER*/", program["adapter"])
        if not await context.load(runtime, program["source"], self._max_output):
            context.close()
            return ERROR, b"there is no function named transform"
        self._contexts[number] = context
        return DONE, b""


def main() -> None:
    """Confine this process, then serve until the input ends."""
    configuration = json.loads(sys.argv[1])
    here = Path(__file__).parent
    sys.path.append(configuration["packages"])
    parent = configuration["parent"]
    process.die_with(parent)
    requests, responses = _pipes()
    os.environ["TZ"] = "UTC"  # the whole environment; otherwise V8 asks the system
    time.tzset()
    runtime = (here / "runtime.js").read_text()

    from py_mini_racer import MiniRacer, init_mini_racer

    init_mini_racer(flags=["--single-threaded", f"--max-heap-size={max(configuration['memory'] >> 20, 16)}"])
    first = MiniRacer()  # the first one of a process opens files and maps that all isolates share
    first.eval("new Intl.DateTimeFormat().format(0)")
    first.close()
    memory = process.Memory()
    missing = process.confine()
    process.die_with(parent)  # again: the change of user reset it
    asyncio.run(_Worker(configuration, memory, runtime).serve(requests, responses, missing))


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Return input and output under other descriptors, so that printing code cannot reach them."""
    requests, responses = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    return os.fdopen(requests, "rb"), os.fdopen(responses, "wb")


if __name__ == "__main__":
    try:
        main()
    finally:
        os._exit(0)  # V8 may wait for ever for running code
