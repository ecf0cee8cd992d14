"""What a pipeline makes of events: the attributes of the person in each, as the output schema has them."""

from collections.abc import Sequence
from typing import Final, Protocol

from headwater.catalog import Pipeline
from headwater.schemas import EVENT_SCHEMA, Codec, InvalidValue, Record, Schema, parse_schema
from headwater.transforms.functions import Function, FunctionFailed, Outcome, RecordError, Runner
from headwater.transforms.mapping import CompiledMapping, MappingFailed

FUNCTION_SECONDS: Final = 2.0
"""How long a function may take for a batch: meanwhile the events of everybody else wait."""

Attributes = str
"""The JSON object of what is known of a person."""


class Failed(Exception):
    """An event that a transformation could not make anything of; its message is for people."""


class Transformer(Protocol):
    """A transformation that is ready for events."""

    async def run(self, records: Sequence[Record]) -> list[Attributes | Failed]:
        """The attributes of each record, or why there are none; a bad record does not hinder the others."""
        ...


class MappingTransformer:
    """Maps each record by itself."""

    def __init__(self, expressions: dict[str, str], out_schema: str) -> None:
        schema = _schema(out_schema)
        self._mapping = CompiledMapping(expressions, EVENT_SCHEMA, schema)
        self._codec = Codec(schema)

    async def run(self, records: Sequence[Record]) -> list[Attributes | Failed]:
        return [self._one(result) for result in self._mapping.apply_all(records)]

    def _one(self, result: Record | MappingFailed) -> Attributes | Failed:
        if isinstance(result, MappingFailed):
            return Failed(result.message)
        try:
            return self._codec.encode(result).decode()
        except InvalidValue as error:
            return Failed(error.message)


class FunctionTransformer:
    """Gives the records to a function in a sandbox, all at once."""

    def __init__(self, runner: Runner, function: Function, out_schema: str) -> None:
        self._runner = runner
        self._function = function
        self._schema = _schema(out_schema)
        self._codec = Codec(self._schema)

    async def run(self, records: Sequence[Record]) -> list[Attributes | Failed]:
        try:
            outcomes = await self._runner.run(self._function, records, EVENT_SCHEMA, self._schema, FUNCTION_SECONDS)
        except FunctionFailed as error:
            return [Failed(error.message)] * len(records)
        return [self._one(outcome) for outcome in outcomes]

    def _one(self, outcome: Outcome) -> Attributes | Failed:
        if isinstance(outcome, RecordError):
            return Failed(outcome.message)
        return self._codec.encode(outcome).decode()


def transformer_of(pipeline: Pipeline, runner: Runner) -> Transformer | None:
    """The transformation of a pipeline; None when it has none."""
    definition = pipeline.definition
    transformation = definition.transformation
    if transformation is None or definition.out_schema is None:
        return None
    if transformation.mapping is not None:
        return MappingTransformer(transformation.mapping, definition.out_schema)
    assert transformation.function is not None, "a transformation is a mapping or a function"
    # A new version of a function is another function: it shares nothing with the former one.
    owner = f"{pipeline.workspace}/{pipeline.id}/{hash(transformation.function)}"
    return FunctionTransformer(runner, transformation.function.function(owner=owner), definition.out_schema)


def _schema(text: str) -> Schema:
    schema = parse_schema(text)
    assert schema is not None, "a transformation has an output schema"
    return schema
