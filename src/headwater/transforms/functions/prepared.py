"""One run of a function in three steps, so that the conversion of values can happen in another process than the run.

`prepare` compiles and encodes, `Runner.run_prepared` runs, and `outcomes` decodes. All that passes between the steps
can be pickled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headwater.schemas import Record, Schema
from headwater.transforms.functions.contract import Function, Language, Outcome, Purpose, RecordError, Results
from headwater.transforms.functions.plan import Plan


@dataclass(frozen=True, slots=True)
class Prepared:
    """A program for a sandbox, and the batch of records that it is to run on."""

    language: Language
    key: Any
    source: str
    adapter: str
    batch: bytes


@dataclass(frozen=True, slots=True)
class Ran:
    """The text that a sandbox returned, and its lines."""

    text: bytes
    lines: Sequence[str | RecordError]


def prepare(
    function: Function, records: Sequence[Record], in_schema: Schema | None, out_schema: Schema | None, purpose: Purpose
) -> Prepared:
    """Compile the function and encode the records. Raises BadRequest for paths that the schemas do not have."""
    function.check_paths(in_schema, out_schema)
    plan = Plan(function, in_schema, out_schema, purpose)
    return Prepared(function.language, plan.key, plan.source, plan.adapter, plan.encode(records))


def outcomes(
    function: Function, ran: Ran, count: int, in_schema: Schema | None, out_schema: Schema | None, purpose: Purpose
) -> list[Outcome]:
    """The outcome of each of `count` records. Raises FunctionFailed when the lines are not as many."""
    plan = Plan(function, in_schema, out_schema, purpose)
    return list(plan.outcomes(Results(ran.text, lambda: ran.lines), count))
