"""The supervisor of a JavaScript worker: starts it, sends it batches, kills it if it exceeds a limit, starts it again.

A worker that exceeded a limit is killed, because its state is unknown and a replacement starts in a fifth of a second.
One worker keeps the contexts of several functions, each in its own V8 isolate.
"""

import asyncio
import importlib.util
import json
import os
import re
import signal
import sys
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from headwater.base.errors import Unavailable
from headwater.transforms.functions.confinement.report import Report
from headwater.transforms.functions.contract import FunctionFailed, Limits, Program, RecordError, Results
from headwater.transforms.functions.errortexts import decode_texts
from headwater.transforms.functions.javascript.frames import (
    DONE,
    DROP,
    ERROR,
    LOAD,
    REQUEST,
    RESPONSE,
    RUN,
    SOURCE_NAME,
    TOO_SLOW,
)

_WORKER: Final = Path(__file__).with_name("worker.py")
_MAX_CONTEXTS: Final = 8
"""Maximum number of functions whose contexts one worker keeps."""
_GRACE_SECONDS: Final = 1.0
"""Time beyond the limit that a worker has to report that it stopped by itself."""
_START_TIMEOUT_SECONDS: Final = 20.0
"""Maximum time for the start of a worker, on a busy machine."""
_LINE: Final = re.compile(rf"\b{re.escape(SOURCE_NAME)}:([0-9]+)")
_FAILED_LINE: Final = re.compile(rf"^(?:{re.escape(SOURCE_NAME)}|<anonymous>):([0-9]+): ")
"""V8 has not read the source's name yet when it reports a syntax error."""
_NO_OBJECT: Final = "JavaScript: transform must return an object"
_BUFFER: Final = 1 << 20

_Do = Callable[[Program, bytes, float], Awaitable[bytes]]


class JavaScriptSandbox:
    """One worker process. Used by one task at a time; see `Sandbox` for the contract."""

    def __init__(self, limits: Limits, report: Report) -> None:
        self._limits = limits
        self._report = report
        self._process: asyncio.subprocess.Process | None = None
        self._handle: int | None = None
        """A descriptor of the process, if the system supports it. Unlike the pid it is never reused."""
        self._contexts: OrderedDict[object, int] = OrderedDict()
        self._next = 0
        self._at_rest = 0
        """Bytes that the worker held before its first function."""
        self._is_full = False

    @property
    def pid(self) -> int | None:
        """The pid of the worker, if there is one."""
        return self._process.pid if self._process is not None else None

    def holds(self, key: object) -> bool:
        return key in self._contexts

    async def load(self, program: Program, seconds: float) -> None:
        await self._guard(self._load, program, b"", seconds)

    async def run(self, program: Program, batch: bytes, seconds: float) -> Results:
        lines = await self._guard(self._run, program, batch, seconds)
        if lines == b"#":
            raise FunctionFailed(f"the results are larger than {self._limits.output} characters")
        return Results(lines, lambda: _each(lines))

    async def stop(self) -> None:
        process, self._process = self._process, None
        handle, self._handle = self._handle, None
        self._contexts.clear()
        if process is not None:
            with suppress(ProcessLookupError):
                if handle is None:
                    process.kill()
                else:  # asyncio would reap a dead process, and then wait for it for ever
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
            await process.wait()
        if handle is not None:
            os.close(handle)

    async def _guard(self, do: _Do, program: Program, batch: bytes, seconds: float) -> bytes:
        """Run `do` in the worker. After an unexpected failure the worker is not used again."""
        good = False
        try:
            try:
                async with asyncio.timeout(_START_TIMEOUT_SECONDS):
                    await self._start()
            except (TimeoutError, asyncio.IncompleteReadError):
                raise Unavailable("the sandbox for JavaScript did not start") from None
            try:
                async with asyncio.timeout(seconds + _GRACE_SECONDS):
                    response = await do(program, batch, seconds)
            except TimeoutError:
                raise _too_slow(seconds) from None
            # Values that functions keep between calls must not reduce the memory of others in the same worker.
            good = not self._is_full
            return response
        except _ProgramError as error:
            good = True
            raise _failure(str(error)) from None
        except (asyncio.IncompleteReadError, ConnectionError):
            raise self._too_much() from None
        finally:
            if not good:
                await asyncio.shield(self.stop())

    async def _load(self, program: Program, _batch: bytes, seconds: float) -> bytes:
        if program.key in self._contexts:
            self._contexts.move_to_end(program.key)
            return b""
        while len(self._contexts) >= _MAX_CONTEXTS:
            _, oldest = self._contexts.popitem(last=False)
            await self._send(DROP, oldest, 0, b"")
        self._next += 1
        payload = json.dumps({"adapter": program.adapter, "source": program.source}).encode()
        await self._ask(LOAD, self._next, seconds, payload)
        self._contexts[program.key] = self._next
        return b""

    async def _run(self, program: Program, batch: bytes, seconds: float) -> bytes:
        await self._load(program, b"", seconds)
        return await self._ask(RUN, self._contexts[program.key], seconds, batch)

    async def _send(self, kind: int, context: int, seconds: float, payload: bytes) -> None:
        assert self._process is not None and self._process.stdin is not None
        self._process.stdin.write(REQUEST.pack(kind, context, seconds, len(payload)) + payload)
        await self._process.stdin.drain()

    async def _ask(self, kind: int, context: int, seconds: float, payload: bytes) -> bytes:
        await self._send(kind, context, seconds, payload)
        response, held, length = await self._header()
        assert self._process is not None and self._process.stdout is not None
        if length > 4 * self._limits.output + 4096:
            raise self._too_much()
        body = await self._process.stdout.readexactly(length)
        if response == ERROR:
            raise _ProgramError(body.decode(errors="replace"))
        if response == TOO_SLOW:
            raise _too_slow(seconds)
        if response != DONE:
            raise self._too_much()
        self._is_full = held > self._at_rest + self._limits.memory
        return body

    async def _header(self) -> tuple[int, int, int]:
        """Return the kind of the next response, the bytes that the worker holds, and the length of the payload."""
        assert self._process is not None and self._process.stdout is not None
        response, held, length = RESPONSE.unpack(await self._process.stdout.readexactly(RESPONSE.size))
        return response, held, length

    async def _start(self) -> None:
        if self._process is not None and self._process.returncode is None:
            return
        await self.stop()
        self._is_full = False
        configuration = {
            "parent": os.getpid(),
            "packages": str(_packages()),
            "memory": self._limits.memory,
            "output": self._limits.output,
        }
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_WORKER), json.dumps(configuration),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={}, cwd="/", limit=_BUFFER,
        )  # fmt: skip
        if sys.platform == "linux":
            with suppress(ProcessLookupError):
                self._handle = os.pidfd_open(self._process.pid)
        _, self._at_rest, length = await self._header()
        assert self._process.stdout is not None
        missing = (await self._process.stdout.readexactly(length)).decode().split()
        self._report.add("JavaScript", missing)

    def _too_much(self) -> FunctionFailed:
        return FunctionFailed(f"JavaScript: the function was stopped: it needs more than {_mib(self._limits.memory)}")


class _ProgramError(Exception):
    """The worker's error, which the program caused."""


def _packages() -> Path:
    """Return the folder of mini-racer, found without importing it: V8 must not run in this process."""
    found = importlib.util.find_spec("py_mini_racer")
    if found is None or found.origin is None:
        raise Unavailable("functions in JavaScript need the package mini-racer")
    return Path(found.origin).parent.parent


def _mib(size: int) -> str:
    return f"{size >> 20} MiB of memory"


def _too_slow(seconds: float) -> FunctionFailed:
    return FunctionFailed(f"JavaScript: the function was stopped: it took longer than {seconds:g} s")


def _failure(text: str) -> FunctionFailed:
    """Convert V8's error for a source that does not compile, or that throws outside `transform`."""
    found = _FAILED_LINE.search(text)
    first, _, rest = text.partition("\n")
    reason = next((line for line in rest.splitlines() if re.match(r"(Uncaught )?\w*Error\b", line)), first)
    reason = _FAILED_LINE.sub("", reason)
    return FunctionFailed(f"JavaScript: {reason[:1000]}", line=int(found[1]) if found else None)


def _each(lines: bytes) -> list[str | RecordError]:
    texts = lines.decode(errors="replace").split("\n")[:-1]
    return [line if line[:1] == "{" else _error(line) for line in texts]


def _error(line: str) -> RecordError:
    """Convert the loop's report about one record."""
    try:
        if line[:1] == "?":
            return RecordError(
                "Transformation", f"JavaScript: transform must return an object, and returned {line[1:]}"
            )
        if line[:1] == "<":
            return RecordError("Transformation", decode_texts(line[1:], str)[:1000])
        if line[:1] == "-":
            path, rule = decode_texts(line[1:], tuple[str, str])
            return RecordError("OutputValidation", f"«{path}» {rule}" if path else rule)
        if line[:1] == "!":
            name, message, stack = decode_texts(line[1:], tuple[str, str, str])
            found = _LINE.search(stack)
            text = ": ".join(part for part in (name, message) if part) or "an error without a text"
            return RecordError("Transformation", f"JavaScript: {text}", int(found[1]) if found else None)
    except msgspec.DecodeError:
        pass
    return RecordError("Transformation", _NO_OBJECT)
