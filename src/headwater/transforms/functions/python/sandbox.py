"""One session of the Python sandbox: starts it for a function, sends it batches, ends it if a limit was exceeded.

The interpreter of each session runs in its own process, which is never used for a second session. The interpreter
allows three things by default that are closed here. Printed output is discarded, nothing may sleep, and every feed has
a time limit. Without that limit, a busy process would survive a killed server.
"""

import asyncio
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec
from pydantic_monty import (
    AsyncMontySession,
    CollectString,
    MontyCrashedError,
    MontyError,
    MontyRuntimeError,
    MontySyntaxError,
)

from headwater.base.errors import Unavailable
from headwater.transforms.functions.contract import FunctionFailed, Limits, Program, RecordError, Results
from headwater.transforms.functions.errortexts import decode_texts
from headwater.transforms.functions.python.adapter import BIND, RESUME, START, START_EACH, TOO_LARGE, UNREADABLE
from headwater.transforms.functions.python.pool import START_SECONDS, Pool

_GRACE_SECONDS: Final = 1.0
"""Time beyond the limit that the interpreter has to stop by itself."""
_SOURCE_NAME: Final = "<python-input-1>"
"""The interpreter's name of the second text of a session, which is the function's source."""


class PythonSandbox:
    """One session at a time, for one function. Used by one task at a time; see `Sandbox` for the contract."""

    def __init__(self, pool: Pool, limits: Limits) -> None:
        self._pool = pool
        self._limits = limits
        self._session: AsyncMontySession | None = None
        self._process: int | None = None
        """A descriptor of the session's process, if the system has such descriptors."""
        self._key: tuple[object, float] | None = None

    @property
    def pid(self) -> int | None:
        """The pid of the session's process, if there is one that is idle."""
        return self._session.worker_pid if self._session is not None else None

    def holds(self, key: object) -> bool:
        return self._key is not None and self._key[0] == key

    async def load(self, program: Program, seconds: float) -> None:
        await self._guard(program, None, seconds)

    async def run(self, program: Program, batch: bytes, seconds: float) -> Results:
        results = await self._guard(program, batch, seconds)
        assert results is not None
        return results

    async def stop(self) -> None:
        session, self._session, self._key = self._session, None, None
        process, self._process = self._process, None
        try:
            if session is not None:
                with suppress(MontyError, RuntimeError):  # the session broke, or its feed was cancelled
                    await session.__aexit__(None, None, None)
        finally:
            if process is not None:
                self._pool.reap(process)

    async def _guard(self, program: Program, batch: bytes | None, seconds: float) -> Results | None:
        good = False
        try:
            await self._open(program, seconds)
            async with asyncio.timeout(seconds + 2 * _GRACE_SECONDS):
                results = None if batch is None else await self._run(batch.decode())
            good = True
            return results
        except TimeoutError:
            raise _too_slow(seconds) from None
        except MontyCrashedError as error:
            raise _too_slow(seconds) if error.timed_out else self._too_much() from None
        finally:
            if not good:
                await asyncio.shield(self.stop())

    async def _open(self, program: Program, seconds: float) -> None:
        """Open a session and load the program in it. The time limit belongs to the session, so it is in the key."""
        key = (program.key, seconds)
        if self._session is not None and self._key == key:
            return
        await self.stop()
        try:
            async with asyncio.timeout(START_SECONDS):
                self._session = await self._pool.start_session(seconds)
        except (TimeoutError, MontyCrashedError):
            raise Unavailable("the sandbox for Python did not start in time") from None
        self._key = key
        if sys.platform == "linux" and (pid := self._session.worker_pid) is not None:
            with suppress(OSError):
                self._process = os.pidfd_open(pid)
        async with asyncio.timeout(seconds + 2 * _GRACE_SECONDS):
            await self._feed(program.adapter)
            try:
                await self._feed(program.source)
                await self._feed(f"{BIND}(transform, {self._limits.output})")
            except MontySyntaxError as error:
                raise FunctionFailed(f"Python: {error.display('type-msg')}", line=_line(error)) from None
            except MontyRuntimeError as error:
                self._refuse_limits(error)
                if "'transform'" in str(error) and _line(error) is None:
                    raise FunctionFailed("Python: there is no function named transform") from None
                raise FunctionFailed(f"Python: {_message(error)}", line=_line(error)) from None

    async def _run(self, batch: str) -> Results:
        """Feed the batch, and resume it after each exception. The code inside does not catch it, because the line would
        be lost."""
        errors: list[RecordError] = []
        code = f"{START}(batch)"
        given: str | list[str] | None = batch
        count = None
        while True:
            try:
                lines = await self._feed(code, given)
                if lines != UNREADABLE or given is not batch:
                    break
                code, given = f"{START_EACH}(batch)", _split_batch(batch)
            except MontyRuntimeError as error:
                self._refuse_limits(error)
                count = count or batch.count("{")
                if len(errors) > count:
                    raise self._tampered() from None
                errors.append(RecordError("Transformation", f"Python: {_message(error)}", _line(error)))
                code, given = f"{RESUME}()", None
        if lines == TOO_LARGE:
            raise FunctionFailed(f"the results are larger than {self._limits.output} characters")
        if not isinstance(lines, str):
            raise self._tampered()
        text = lines
        return Results(text.encode(errors="replace"), lambda: _each(text, errors))

    async def _feed(self, code: str, batch: str | list[str] | None = None) -> object:
        assert self._session is not None
        inputs = None if batch is None else {"batch": batch}
        result: object = await self._session.feed_run(
            code, inputs=inputs, print_callback=CollectString(self._limits.printed)
        )
        return result

    def _refuse_limits(self, error: MontyRuntimeError) -> None:
        """Raise FunctionFailed if the error is a limit. The session must not be used afterwards."""
        inner, text = error.exception(), str(error)
        if isinstance(inner, TimeoutError) and "sleep limit exceeded" in text:
            raise FunctionFailed("Python: a function cannot sleep", line=_line(error)) from None
        if isinstance(inner, TimeoutError) and "time limit exceeded" in text:
            raise FunctionFailed("Python: the function was stopped: it took too long", line=_line(error)) from None
        if isinstance(inner, MemoryError) and f"> {self._limits.printed} bytes" in text:
            raise FunctionFailed(f"Python: the function printed more than {self._limits.printed} bytes") from None
        if isinstance(inner, MemoryError):
            raise self._too_much() from None
        if isinstance(inner, RuntimeError) and "suspension" in text:
            raise FunctionFailed("Python: the function was stopped: it used unknown names too often") from None

    def _too_much(self) -> FunctionFailed:
        return FunctionFailed(
            f"Python: the function was stopped: it needs more than {self._limits.memory >> 20} MiB of memory"
        )

    def _tampered(self) -> FunctionFailed:
        return FunctionFailed("Python: the function changed the code around it")


def _too_slow(seconds: float) -> FunctionFailed:
    return FunctionFailed(f"Python: the function was stopped: it took longer than {seconds:g} s")


def _message(error: MontyRuntimeError) -> str:
    return error.display("type-msg")[:1000]


def _split_batch(batch: str) -> list[str]:
    """Return the JSON of each record of a batch; see `CompiledFunction.encode`."""
    return batch[1:-1].split(",\n")


def _line(error: MontyRuntimeError | MontySyntaxError) -> int | None:
    lines = [frame.line for frame in error.traceback() if frame.filename == _SOURCE_NAME]
    return lines[-1] if lines else None


def _each(lines: str, errors: Sequence[RecordError]) -> list[str | RecordError]:
    raised = iter(errors)
    return [line if line[:1] == "{" else _error(line, raised) for line in lines.split("\n")]


def _error(line: str, raised: Iterator[RecordError]) -> RecordError:
    """Convert the loop's report about one record. An empty line stands for the next raised exception."""
    try:
        if not line:
            return next(raised)
        if line[0] == "?":
            return RecordError("Transformation", f"Python: transform must return a dict, and returned {line[1:101]}")
        if line[0] == "-":
            path, rule = decode_texts(line[1:], tuple[str, str])
            return RecordError("OutputValidation", f"«{path}» {rule}" if path else rule)
        if line[0] == "<":
            return RecordError("Transformation", decode_texts(line[1:], str)[:1000])
        if line[0] == "!":
            return RecordError("Transformation", f"Python: {decode_texts(line[1:], str)[:1000]}")
    except (msgspec.DecodeError, StopIteration):
        pass
    return RecordError("Transformation", "Python: transform must return a dict")
