"""The transformation of an export: from the record of a profile to the canonical JSON of what is written.

The output schema has only what the pipeline writes, and any of it may be missing. A function gets up to 1,000 records
at a time, in a sandbox.
"""

import asyncio
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, Protocol

from msgspec import Struct

from headwater.base.errors import BadRequest, Unavailable
from headwater.base.steps import ProcessingStep
from headwater.catalog import Definition, Pipeline, encode_definition
from headwater.runs.exporting.selecting import read_schema
from headwater.runs.job import RunFailed
from headwater.schemas import Codec, InvalidValue, Record, Schema, all_optional
from headwater.schemas.documents import compile_writer
from headwater.schemas.records import RecordReader
from headwater.transforms.functions import Function, FunctionFailed, Purpose, RecordError, Runner
from headwater.transforms.mapping import CompiledMapping, MappingFailed

MAX_FUNCTION_RECORDS: Final = 1_000
"""Maximum number of records that a function gets together."""
MAX_FUNCTION_SECONDS: Final = 60.0
"""Time limit of a function for these records."""
DIGEST_BYTES: Final = 8


class FailedRecord(Struct, frozen=True):
    """A record that could not be transformed."""

    step: ProcessingStep
    message: str
    path: str = ""


Output = bytes | FailedRecord
"""A JSON object of the output schema, or the reason why there is none."""


class Transformation(Protocol):
    """The transformation of a pipeline."""

    async def run(self, records: Sequence[Record], purpose: Purpose) -> list[Output]:
        """Return the output of each record. Raises RunFailed if the transformation as a whole fails."""


class ExportOutput(Struct, frozen=True):
    """The output of an export to tables and applications."""

    schema: Schema
    """The output schema of the pipeline."""
    transformation: Transformation
    reader: RecordReader
    """Reads what the transformation returned."""


def read_output(pipeline: Pipeline, in_schema: Schema, runner: Runner) -> ExportOutput:
    """Return the output of a pipeline. Raises RunFailed if its transformation cannot be used."""
    definition = pipeline.definition
    transformation = definition.transformation
    if transformation is None:
        raise RunFailed("Transformation", "the pipeline has no transformation")
    try:
        schema = read_schema(definition.out_schema)
        made: Transformation
        if transformation.function is not None:
            # Each version of a function is another function, which shares nothing with the former one.
            owner = f"{pipeline.workspace}/{pipeline.id}/{hash(transformation.function)}"
            made = _FunctionTransformation(transformation.function.function(owner=owner), in_schema, schema, runner)
        else:
            made = _MappingTransformation(transformation.mapping or {}, in_schema, schema)
    except BadRequest as error:
        raise RunFailed("Transformation", f"the transformation cannot be used: {error.message}") from error
    return ExportOutput(schema, made, RecordReader(all_optional(schema)))


def digest_definition(definition: Definition) -> bytes:
    """Return a digest of everything that decides what is written for a profile. The filter only decides whether."""
    kept = Definition(
        in_schema=definition.in_schema,
        out_schema=definition.out_schema,
        transformation=definition.transformation,
        export_mode=definition.export_mode,
        matching=definition.matching,
        table_name=definition.table_name,
        table_key=definition.table_key,
    )
    return blake2b(encode_definition(kept), digest_size=16).digest()


def digest_selection(definition: Definition) -> bytes:
    """Return a digest of everything that decides what is written, the filter included."""
    return blake2b(digest_definition(definition) + (definition.filter or "").encode(), digest_size=16).digest()


class Digest:
    """Makes digests that depend on the definition of a pipeline too."""

    def __init__(self, definition: bytes) -> None:
        self.begin = blake2b(definition, digest_size=DIGEST_BYTES).copy
        """Returns the state of a digest, to update with a text."""

    def __call__(self, text: bytes) -> bytes:
        begun = self.begin()
        begun.update(text)
        return begun.digest()


class _MappingTransformation:
    def __init__(self, expressions: dict[str, str], in_schema: Schema, out_schema: Schema) -> None:
        self._mapping = CompiledMapping(expressions, in_schema, out_schema)
        self._write = compile_writer(out_schema)

    async def run(self, records: Sequence[Record], purpose: Purpose) -> list[Output]:
        return await asyncio.to_thread(lambda: [self._one(record, purpose) for record in records])

    def _one(self, record: Record, purpose: Purpose) -> Output:
        try:
            return self._write(self._mapping.apply(record, purpose))
        except MappingFailed as error:
            return FailedRecord(error.step, error.message, error.path)
        except UnicodeEncodeError:
            return FailedRecord("OutputValidation", "a text has a lone surrogate")


class _FunctionTransformation:
    def __init__(self, function: Function, in_schema: Schema, out_schema: Schema, runner: Runner) -> None:
        function.check_paths(in_schema, out_schema)
        self._function = function
        self._schemas = in_schema, out_schema
        self._runner = runner
        self._encode = Codec(all_optional(out_schema)).encode

    async def run(self, records: Sequence[Record], purpose: Purpose) -> list[Output]:
        outputs: list[Output] = []
        for start in range(0, len(records), MAX_FUNCTION_RECORDS):
            outputs += await self._run(records[start : start + MAX_FUNCTION_RECORDS], purpose)
        return outputs

    async def _run(self, records: Sequence[Record], purpose: Purpose) -> list[Output]:
        try:
            outcomes = await self._runner.stream(
                self._function, records, *self._schemas, MAX_FUNCTION_SECONDS, purpose=purpose
            )
        except (FunctionFailed, Unavailable) as error:
            raise RunFailed("Transformation", error.message) from error
        return await asyncio.to_thread(lambda: [self._one(outcome) for outcome in outcomes])

    def _one(self, outcome: Record | RecordError) -> Output:
        if isinstance(outcome, RecordError):
            return FailedRecord(outcome.step, outcome.message)
        try:
            return self._encode(outcome)
        except InvalidValue as error:
            return FailedRecord("OutputValidation", error.message, error.path)
