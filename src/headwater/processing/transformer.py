"""Transformations of User pipelines: from an event's record to the attributes of its person."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Literal, Protocol

import structlog

from headwater.base.throttle import Throttle
from headwater.catalog import Pipeline, ProfileSchema
from headwater.profiles.alignment import find_misalignment
from headwater.schemas import EVENT_SCHEMA, Codec, InvalidValue, Misalignment, Record, Schema, parse_schema
from headwater.state import MAX_ATTRIBUTES_BYTES, attributes_fit
from headwater.transforms.functions import Function, RecordError, Runner
from headwater.transforms.mapping import CompiledMapping, MappingFailed

MAX_FUNCTION_SECONDS: Final = 2.0
"""Time limit of a function for one run of records. A record that alone takes longer fails."""
_SLICE_SECONDS: Final = 0.01
_SLICE_BYTES: Final = 256 * 1024
"""Size of results, besides a duration, after which other tasks of the process run and the budget is checked."""

Kind = Literal["Mapping", "JavaScript", "Python"]
AttributesJson = str
"""A JSON object: the attributes of a person, as the output schema defines them."""

_log = structlog.get_logger(__name__)
_throttle: Final = Throttle()


class Failed(Exception):
    """A record that a transformation could not transform. Its message is for people."""


class Budget:
    """Limits of time and memory that transformations share."""

    def __init__(self, seconds: float, size: int, within: "Budget | None" = None) -> None:
        """Limit the seconds and the bytes of results. Use counts towards the budget `within`, too."""
        self._seconds = seconds
        self._bytes = size
        self._within = within

    def use(self, seconds: float, size: int) -> None:
        """Subtract from the budget, which may be overdrawn."""
        self._seconds -= seconds
        self._bytes -= size
        if self._within is not None:
            self._within.use(seconds, size)

    @property
    def is_used_up(self) -> bool:
        """True if nothing is left."""
        return self._seconds <= 0 or self._bytes <= 0 or (self._within is not None and self._within.is_used_up)


class Transformer(Protocol):
    """A compiled transformation."""

    @property
    def kind(self) -> Kind:
        """The kind of program that runs it: a sandbox of this language, or, for a mapping, the process itself."""
        ...

    async def run(self, records: Sequence[Record], budget: Budget) -> list[AttributesJson | Failed]:
        """Return the attributes or the failure of each record.

        A mapping stops when the budget is used up: the list may then be shorter than the records. It raises nothing. A
        function raises FunctionFailed if it fails on the records as a whole (its time or memory is used up), and
        Unavailable if there is no sandbox to run it.
        """
        ...


class MappingTransformer:
    """Maps each record by itself."""

    kind: Kind = "Mapping"

    def __init__(self, expressions: dict[str, str], out_schema: str) -> None:
        schema = _schema(out_schema)
        self._mapping = CompiledMapping(expressions, EVENT_SCHEMA, schema)
        self._codec = Codec(schema)

    async def run(self, records: Sequence[Record], budget: Budget) -> list[AttributesJson | Failed]:
        results: list[AttributesJson | Failed] = []
        slice_began = time.perf_counter()
        size = 0
        for record in records:
            result = self._one(record)
            results.append(result)
            size += len(result) if isinstance(result, str) else 0
            now = time.perf_counter()
            if now > slice_began + _SLICE_SECONDS or size > _SLICE_BYTES:
                budget.use(now - slice_began, size)
                if budget.is_used_up:
                    return results
                await asyncio.sleep(0)
                slice_began, size = time.perf_counter(), 0
        budget.use(time.perf_counter() - slice_began, size)
        return results

    def _one(self, record: Record) -> AttributesJson | Failed:
        try:
            return _bounded(self._codec.encode(self._mapping.apply(record)).decode())
        except (MappingFailed, InvalidValue) as error:
            return Failed(error.message)
        except Exception as error:
            return failure(error)


class MisalignedTransformer:
    """Fails every record, because the pipeline does not fit the profile schema of its workspace."""

    kind: Kind = "Mapping"

    def __init__(self, difference: Misalignment) -> None:
        self._reason = f"outSchema differs from the profile schema: {difference.cause}"

    async def run(self, records: Sequence[Record], budget: Budget) -> list[AttributesJson | Failed]:
        return [Failed(self._reason)] * len(records)


class FunctionTransformer:
    """Passes records to a function in a sandbox, all records of a run together."""

    def __init__(self, runner: Runner, function: Function, out_schema: str) -> None:
        self.kind: Kind = function.language
        self._runner = runner
        self._function = function
        self._schema = _schema(out_schema)
        self._codec = Codec(self._schema)

    async def run(self, records: Sequence[Record], budget: Budget) -> list[AttributesJson | Failed]:
        """Run the function; see `Transformer.run`. The budget is not used, because the sandbox has its own limits."""
        outcomes = await self._runner.stream(self._function, records, EVENT_SCHEMA, self._schema, MAX_FUNCTION_SECONDS)
        results: list[AttributesJson | Failed] = []
        slice_began = time.perf_counter()
        for outcome in outcomes:
            results.append(Failed(outcome.message) if isinstance(outcome, RecordError) else self._one(outcome))
            if time.perf_counter() > slice_began + _SLICE_SECONDS:
                await asyncio.sleep(0)
                slice_began = time.perf_counter()
        return results

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
    name = type(error).__name__
    if count := _throttle.passes(name):
        _log.error("internal error in a transformation", error=name, count=count, exc_info=error)
    return Failed(f"internal error ({name})")


def compile_mapping(pipeline: Pipeline) -> MappingTransformer | None:
    """Compile the mapping of a pipeline; None if it has none."""
    definition = pipeline.definition
    if definition.transformation is None or definition.transformation.mapping is None or definition.out_schema is None:
        return None
    return MappingTransformer(definition.transformation.mapping, definition.out_schema)


def has_function(pipeline: Pipeline) -> bool:
    """Return whether the transformation of a pipeline is a function."""
    definition = pipeline.definition
    transformation = definition.transformation
    return transformation is not None and transformation.function is not None and definition.out_schema is not None


def compile_transformer(
    pipeline: Pipeline, runner: Runner, profiles: ProfileSchema | None = None
) -> Transformer | None:
    """Compile the transformation of a pipeline of a source; None if it has none. It fails every record if the pipeline
    does not fit the profile schema."""
    difference = find_misalignment(pipeline.definition, "Source", pipeline.target, profiles)
    if difference is not None:
        return MisalignedTransformer(difference)
    if not has_function(pipeline):
        return compile_mapping(pipeline)
    definition = pipeline.definition
    assert definition.transformation is not None and definition.out_schema is not None, "it has a function"
    function = definition.transformation.function
    assert function is not None, "it has a function"
    # Each version of a function is another function, which shares nothing with the former one.
    owner = f"{pipeline.workspace}/{pipeline.id}/{hash(function)}"
    return FunctionTransformer(runner, function.function(owner=owner), definition.out_schema)


def _bounded(attributes: AttributesJson) -> AttributesJson | Failed:
    if attributes_fit(attributes):
        return attributes
    return Failed(f"the attributes have more than {MAX_ATTRIBUTES_BYTES} bytes as JSON")


def _schema(text: str) -> Schema:
    schema = parse_schema(text)
    assert schema is not None, "a transformation has an output schema"
    return schema
