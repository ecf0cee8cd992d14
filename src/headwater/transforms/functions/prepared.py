"""One run of a function in three steps, so that another process than the one that runs it can convert the values.

`prepare` compiles and encodes, `Runner.run_prepared` runs, and `outcomes` decodes. The values that pass between the
steps can be pickled.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from headwater.schemas import Record, Schema
from headwater.transforms.functions.compiled_function import CompiledFunction
from headwater.transforms.functions.contract import Function, Language, Outcome, Purpose, RecordError, Results


@dataclass(frozen=True, slots=True)
class Prepared:
    """A program for a sandbox, and the batch of records for it."""

    language: Language
    key: Any
    source: str
    adapter: str
    batch: bytes


@dataclass(frozen=True, slots=True)
class RunOutput:
    """The text that a sandbox returned, and its lines."""

    text: bytes
    lines: Sequence[str | RecordError]


def prepare(
    function: Function, records: Sequence[Record], in_schema: Schema | None, out_schema: Schema | None, purpose: Purpose
) -> Prepared:
    """Compile the function and encode the records. Raises BadRequest for paths that the schemas do not have."""
    function.check_paths(in_schema, out_schema)
    compiled = CompiledFunction(function, in_schema, out_schema, purpose)
    return Prepared(function.language, compiled.key, compiled.source, compiled.adapter, compiled.encode(records))


def outcomes(
    function: Function,
    output: RunOutput,
    count: int,
    in_schema: Schema | None,
    out_schema: Schema | None,
    purpose: Purpose,
) -> list[Outcome]:
    """Return the outcome of each of `count` records. Raises FunctionFailed if the number of lines differs."""
    compiled = CompiledFunction(function, in_schema, out_schema, purpose)
    return list(compiled.outcomes(Results(output.text, lambda: output.lines), count))
