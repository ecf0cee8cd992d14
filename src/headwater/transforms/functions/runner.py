"""Runs functions on batches of records: schema values in, schema values out, and an outcome for each record.

It owns the sandboxes, and stops them when it is closed. Values are converted in the server's process. User code runs
only in sandboxes.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Final, Self

from headwater.base.errors import BadRequest
from headwater.schemas import Record, Schema
from headwater.transforms.functions.compiled_function import CompiledFunction
from headwater.transforms.functions.confinement.report import Report
from headwater.transforms.functions.contract import (
    LANGUAGES,
    Function,
    Language,
    Limits,
    Outcome,
    Purpose,
)
from headwater.transforms.functions.javascript.sandbox import JavaScriptSandbox
from headwater.transforms.functions.prepared import Prepared, RunOutput
from headwater.transforms.functions.python.pool import open_pool
from headwater.transforms.functions.python.sandbox import PythonSandbox
from headwater.transforms.functions.sandbox_pool import DEFAULT_WAIT_SECONDS, SandboxPool

_MAX_COMPILED: Final = 256
"""Maximum number of compiled functions that are kept."""

_SETTLE_SECONDS: Final = 0.05
"""Time that threads have to exit when a runner is closed."""

MAX_SECONDS: Final = 300.0
"""Maximum time limit that a caller may give one batch."""


class Runner:
    """The functions of one server. Use it as an async context manager, in one event loop.

    Any number of tasks may run functions concurrently. They share `javascript` worker processes, each with the contexts
    of several functions, and `python` ones, each with one function. One owner gets at most `per_owner` of each, and at
    most `max_waiting` of its calls wait; None is no limit. Owners are served in turn.

    With `require_confinement`, functions do not run (Unavailable) if the system refuses a part of their confinement.
    Otherwise a warning is logged.
    """

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        javascript: int = 2,
        python: int = 8,
        require_confinement: bool = False,
        per_owner: int | None = None,
        max_waiting: int | None = None,
    ) -> None:
        self._limits = limits or Limits()
        self._report = Report(required=require_confinement)
        self._counts = javascript, python
        self._shares = per_owner, max_waiting
        self._pools: dict[Language, SandboxPool] = {}
        self._compiled: OrderedDict[tuple[object, ...], CompiledFunction] = OrderedDict()
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        javascript, python = self._counts
        processes = await self._exits.enter_async_context(open_pool(python, self._limits, self._report))
        self._pools = {
            "JavaScript": SandboxPool(
                [JavaScriptSandbox(self._limits, self._report) for _ in range(javascript)], *self._shares
            ),
            "Python": SandboxPool([PythonSandbox(processes, self._limits) for _ in range(python)], *self._shares),
        }
        for pool in self._pools.values():
            self._exits.push_async_callback(pool.stop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()
        # A thread of pydantic-monty may still be in the call that reported the end of its pool to the event loop. If
        # the interpreter ended at that point, the thread would abort the process.
        await asyncio.sleep(_SETTLE_SECONDS)

    def languages(self) -> tuple[Language, ...]:
        """Return the supported languages of functions."""
        return LANGUAGES

    async def check(self, function: Function, in_schema: Schema | None, out_schema: Schema | None) -> None:
        """Load the function without running it; call this before storing one. Raises BadRequest for its paths, and
        FunctionFailed with the line if it does not compile or has no `transform`."""
        function.check_paths(in_schema, out_schema)
        compiled = self._compile(function, in_schema, out_schema, "Import")
        async with self._pools[function.language].acquire(compiled.key) as sandbox:
            await sandbox.load(compiled, self._limits.seconds)

    async def load_prepared(
        self, prepared: Prepared, seconds: float, *, owner: str, wait: float = DEFAULT_WAIT_SECONDS
    ) -> None:
        """Load a prepared function without running it. Raises as `run_prepared` does."""
        async with self._pools[prepared.language].acquire(prepared.key, owner, wait) as sandbox:
            await sandbox.load(prepared, seconds)

    async def run_prepared(
        self, prepared: Prepared, seconds: float, *, owner: str, wait: float = DEFAULT_WAIT_SECONDS
    ) -> RunOutput:
        """Run a prepared function on its batch, for at most `seconds`, after waiting at most `wait` seconds for a
        sandbox.

        Raises FunctionFailed; TooManyRequests if too many calls of the owner wait; Unavailable if no sandbox was free
        in time or could be started.
        """
        async with self._pools[prepared.language].acquire(prepared.key, owner, wait) as sandbox:
            results = await sandbox.run(prepared, prepared.batch, seconds)
        return RunOutput(results.text, results.split())

    async def run(
        self,
        function: Function,
        records: Sequence[Record],
        in_schema: Schema | None,
        out_schema: Schema | None,
        seconds: float | None = None,
        *,
        purpose: Purpose = "Import",
    ) -> list[Outcome]:
        """Return the outcome of each record, in their order.

        The records conform to `in_schema`. The function receives the properties at its `in_paths`. Results conform to
        `out_schema` at the `out_paths`, all of which may be missing unless the purpose requires them. `seconds` limits
        the whole batch, without the wait for a sandbox. Raises FunctionFailed if the batch as a whole failed, and
        Unavailable if no sandbox was free or could be started.
        """
        return list(await self.stream(function, records, in_schema, out_schema, seconds, purpose=purpose))

    async def stream(
        self,
        function: Function,
        records: Sequence[Record],
        in_schema: Schema | None,
        out_schema: Schema | None,
        seconds: float | None = None,
        *,
        purpose: Purpose = "Import",
    ) -> Iterator[Outcome]:
        """Run a function as `run` does; return the outcomes lazily, decoded during iteration.

        Outcomes may be forty times as large as their text, so callers that keep only an extract save memory.
        """
        if not records:
            return iter(())
        limit = self._limits.seconds if seconds is None else seconds
        if not 0 < limit <= MAX_SECONDS:
            raise BadRequest(f"seconds must be above 0 and at most {MAX_SECONDS:g}", field="seconds")
        compiled = self._compile(function, in_schema, out_schema, purpose)
        async with self._pools[function.language].acquire(compiled.key) as sandbox:
            results = await sandbox.run(compiled, compiled.encode(records), limit)
        return compiled.outcomes(results, len(records))

    def _compile(
        self, function: Function, in_schema: Schema | None, out_schema: Schema | None, purpose: Purpose
    ) -> CompiledFunction:
        # Keyed by identity, because comparing large schemas takes longer than a small batch. The value keeps them
        # alive.
        key = (function, id(in_schema), id(out_schema), purpose)
        compiled = self._compiled.get(key)
        if compiled is None:
            compiled = self._compiled[key] = CompiledFunction(function, in_schema, out_schema, purpose)
            if len(self._compiled) > _MAX_COMPILED:
                self._compiled.popitem(last=False)
        else:
            self._compiled.move_to_end(key)
        return compiled
