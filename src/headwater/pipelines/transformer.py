"""Transformations of User pipelines: from an event's record to the attributes of its person."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Literal, Protocol

import structlog

from headwater.catalog import Pipeline
from headwater.schemas import EVENT_SCHEMA, Codec, InvalidValue, Record, Schema, parse_schema
from headwater.transforms.functions import Function, RecordError, Runner
from headwater.transforms.mapping import CompiledMapping, MappingFailed

MAX_FUNCTION_SECONDS: Final = 2.0
"""How long a function may take for one run of records. A record that alone takes longer fails."""
MAX_ATTRIBUTES_BYTES: Final = 256 * 1024
"""The size of the attributes that one event may give a person, as JSON."""
_SLICE_SECONDS: Final = 0.01
"""After this time a mapping lets other tasks of the process run."""

Kind = Literal["Mapping", "JavaScript", "Python"]
AttributesJson = str
"""A JSON object: the attributes of a person, as the output schema has them."""

_log = structlog.get_logger(__name__)


class Failed(Exception):
    """A record that a transformation could not transform. Its message is for people."""


class Transformer(Protocol):
    """A compiled transformation."""

    @property
    def kind(self) -> Kind:
        """What runs it: a sandbox of this language, or, for a mapping, the process itself."""
        ...

    async def run(self, records: Sequence[Record]) -> list[AttributesJson | Failed]:
        """Return the attributes or the failure of each record.

        A function raises FunctionFailed when it fails on the records as a whole (its time or memory is used up), and
        Unavailable when there is no sandbox to run it. A mapping raises nothing.
        """
        ...


class MappingTransformer:
    """Maps each record by itself."""

    kind: Kind = "Mapping"

    def __init__(self, expressions: dict[str, str], out_schema: str) -> None:
        schema = _schema(out_schema)
        self._mapping = CompiledMapping(expressions, EVENT_SCHEMA, schema)
        self._codec = Codec(schema)
        self.seconds_per_record: float | None = None
        """A moving average; None before the first record."""
        self.bytes_per_record = 0.0

    async def run(self, records: Sequence[Record]) -> list[AttributesJson | Failed]:
        results: list[AttributesJson | Failed] = []
        began = slice_began = time.perf_counter()
        for record in records:
            results.append(self._one(record))
            if (now := time.perf_counter()) > slice_began + _SLICE_SECONDS:
                await asyncio.sleep(0)
                slice_began = time.perf_counter()
                began += slice_began - now  # the time of other tasks is not this mapping's
        self._learn(results, time.perf_counter() - began)
        return results

    def _one(self, record: Record) -> AttributesJson | Failed:
        try:
            return _bounded(self._codec.encode(self._mapping.apply(record)).decode())
        except (MappingFailed, InvalidValue) as error:
            return Failed(error.message)
        except Exception as error:
            return failure(error)

    def _learn(self, results: Sequence[AttributesJson | Failed], seconds: float) -> None:
        if not results:
            return
        size = sum(len(result) for result in results if isinstance(result, str))
        if self.seconds_per_record is None:
            self.seconds_per_record, self.bytes_per_record = seconds / len(results), size / len(results)
        else:
            self.seconds_per_record += 0.5 * (seconds / len(results) - self.seconds_per_record)
            self.bytes_per_record += 0.5 * (size / len(results) - self.bytes_per_record)


class FunctionTransformer:
    """Gives records to a function in a sandbox, all of a run together."""

    def __init__(self, runner: Runner, function: Function, out_schema: str) -> None:
        self.kind: Kind = function.language
        self._runner = runner
        self._function = function
        self._schema = _schema(out_schema)
        self._codec = Codec(self._schema)

    async def run(self, records: Sequence[Record]) -> list[AttributesJson | Failed]:
        outcomes = await self._runner.run(self._function, records, EVENT_SCHEMA, self._schema, MAX_FUNCTION_SECONDS)
        return [
            Failed(outcome.message) if isinstance(outcome, RecordError) else self._one(outcome) for outcome in outcomes
        ]

    def _one(self, outcome: Record) -> AttributesJson | Failed:
        try:
            return _bounded(self._codec.encode(outcome).decode())
        except InvalidValue as error:
            return Failed(error.message)
        except Exception as error:
            return failure(error)


def failure(error: Exception) -> Failed:
    """Return the failure of the record that caused an unexpected error, and log the error's class."""
    if isinstance(error, RecursionError):
        return Failed("the value is nested too deeply")
    _log.error("internal error in a transformation", error=type(error).__name__, exc_info=error)
    return Failed(f"internal error ({type(error).__name__})")


def compile_transformer(pipeline: Pipeline, runner: Runner | None) -> Transformer | None:
    """Compile the transformation of a pipeline; None when it has none.

    Without a runner a function is represented by `LANED`: it is known to exist, but runs in another process.
    """
    definition = pipeline.definition
    transformation = definition.transformation
    if transformation is None or definition.out_schema is None:
        return None
    if transformation.mapping is not None:
        return MappingTransformer(transformation.mapping, definition.out_schema)
    assert transformation.function is not None, "a transformation is a mapping or a function"
    if runner is None:
        return LANED
    # A new version of a function is another function: it shares nothing with the former one.
    owner = f"{pipeline.workspace}/{pipeline.id}/{hash(transformation.function)}"
    return FunctionTransformer(runner, transformation.function.function(owner=owner), definition.out_schema)


class Laned:
    """Stands for a function that runs in the courier."""

    kind: Kind = "JavaScript"

    async def run(self, records: Sequence[Record]) -> list[AttributesJson | Failed]:
        raise NotImplementedError("functions run in the courier")


LANED: Final = Laned()


def _bounded(attributes: AttributesJson) -> AttributesJson | Failed:
    size = len(attributes) if attributes.isascii() else len(attributes.encode())
    if size > MAX_ATTRIBUTES_BYTES:
        return Failed(f"the attributes have {size} bytes as JSON, and at most {MAX_ATTRIBUTES_BYTES} are stored")
    return attributes


def _schema(text: str) -> Schema:
    schema = parse_schema(text)
    assert schema is not None, "a transformation has an output schema"
    return schema
