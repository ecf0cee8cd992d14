"""Runs functions on batches of records: schema values in, schema values out, and an outcome for each record.

It owns the sandboxes, and ends them when it is closed. Converting values happens here, in the server's process;
people's code never does.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from typing import Final, Self

from headwater.base.errors import BadRequest
from headwater.schemas import Record, Schema
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
from headwater.transforms.functions.plan import Plan
from headwater.transforms.functions.prepared import Prepared, Ran
from headwater.transforms.functions.python.pool import open_pool
from headwater.transforms.functions.python.sandbox import PythonSandbox
from headwater.transforms.functions.slots import WAIT, Slots

_PLANS: Final = 256
"""How many pairs of schemas and functions are kept compiled."""

_SETTLE: Final = 0.05
"""Seconds that threads get to leave, when a runner is closed."""

MAX_SECONDS: Final = 300.0
"""The longest that a caller may give one batch."""


class Runner:
    """The functions of one server. Used as an async context manager, in one event loop.

    Any number of tasks may run functions at the same time; they share `javascript` worker processes, each with the
    contexts of several functions, and `python` ones, each with one function. Of each, one owner gets `per_owner` at a
    time, and at most `max_waiting` of its calls wait; None is no limit. Owners are served in turn.

    With `require_confinement` functions do not run (Unavailable) when the system refuses a part of their confinement;
    otherwise that is logged as a warning.
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
        self._slots: dict[Language, Slots] = {}
        self._plans: OrderedDict[tuple[object, ...], Plan] = OrderedDict()
        self._exits = AsyncExitStack()

    async def __aenter__(self) -> Self:
        javascript, python = self._counts
        pool = await self._exits.enter_async_context(open_pool(python, self._limits, self._report))
        self._slots = {
            "JavaScript": Slots(
                [JavaScriptSandbox(self._limits, self._report) for _ in range(javascript)], *self._shares
            ),
            "Python": Slots([PythonSandbox(pool, self._limits) for _ in range(python)], *self._shares),
        }
        for slots in self._slots.values():
            self._exits.push_async_callback(slots.stop)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._exits.aclose()
        # A thread of pydantic-monty has told the event loop that its pool ended, and may not have returned from that.
        # If the interpreter ended at this very moment, the thread would abort the process.
        await asyncio.sleep(_SETTLE)

    def languages(self) -> tuple[Language, ...]:
        """The languages in which functions may be written here."""
        return LANGUAGES

    async def check(self, function: Function, in_schema: Schema | None, out_schema: Schema | None) -> None:
        """Load the function without running it: what to do before one is stored. Raises BadRequest for its paths, and
        FunctionFailed, with the line, when it does not compile or has no `transform`."""
        function.check_paths(in_schema, out_schema)
        plan = self._plan(function, in_schema, out_schema, "Import")
        async with self._slots[function.language].lend(plan.key) as sandbox:
            await sandbox.load(plan, self._limits.seconds)

    async def load_prepared(self, prepared: Prepared, seconds: float, *, owner: str, wait: float = WAIT) -> None:
        """Load a prepared function without running it. Raises as `run_prepared` does."""
        async with self._slots[prepared.language].lend(prepared.key, owner, wait) as sandbox:
            await sandbox.load(prepared, seconds)

    async def run_prepared(self, prepared: Prepared, seconds: float, *, owner: str, wait: float = WAIT) -> Ran:
        """Run a prepared function on its batch, for at most `seconds`, after waiting at most `wait` for a sandbox.

        Raises FunctionFailed; TooManyRequests when too many calls of the owner wait; Unavailable when no sandbox was
        free in time or could be started.
        """
        async with self._slots[prepared.language].lend(prepared.key, owner, wait) as sandbox:
            results = await sandbox.run(prepared, prepared.batch, seconds)
        return Ran(results.text, results.each())

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
        """The outcome of each record, in their order.

        The records conform to `in_schema`; the function gets what is at its `in_paths`. Results conform to what
        `out_schema` has at its `out_paths`, none of which need be there unless the purpose requires it. `seconds` is
        the limit for the whole batch, waiting for a sandbox aside. Raises FunctionFailed when the batch as a whole
        failed, and Unavailable when no sandbox was free or could be started.
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
        """Run a function as `run` does; return the outcomes decoded while they are taken.

        Outcomes may be forty times as large as their text: a caller that keeps something smaller needs less memory.
        """
        if not records:
            return iter(())
        limit = self._limits.seconds if seconds is None else seconds
        if not 0 < limit <= MAX_SECONDS:
            raise BadRequest(f"seconds must be above 0 and at most {MAX_SECONDS:g}", field="seconds")
        plan = self._plan(function, in_schema, out_schema, purpose)
        async with self._slots[function.language].lend(plan.key) as sandbox:
            results = await sandbox.run(plan, plan.encode(records), limit)
        return plan.outcomes(results, len(records))

    def _plan(self, function: Function, in_schema: Schema | None, out_schema: Schema | None, purpose: Purpose) -> Plan:
        # By identity, as comparing large schemas takes longer than a small batch. The plan keeps them alive.
        key = (function, id(in_schema), id(out_schema), purpose)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = Plan(function, in_schema, out_schema, purpose)
            if len(self._plans) > _PLANS:
                self._plans.popitem(last=False)
        else:
            self._plans.move_to_end(key)
        return plan
