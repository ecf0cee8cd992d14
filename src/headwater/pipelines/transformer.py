"""What a pipeline makes of events: the attributes of the person in each, as the output schema has them."""

from collections.abc import Sequence
from typing import Protocol

from headwater.catalog import Definition
from headwater.schemas import EVENT_SCHEMA, Codec, InvalidValue, Record, parse_schema
from headwater.transforms.mapping import CompiledMapping, MappingFailed

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
        schema = parse_schema(out_schema)
        assert schema is not None, "a transformation has an output schema"
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


def transformer_of(definition: Definition) -> Transformer | None:
    """The transformation of a pipeline; None when it has none."""
    transformation = definition.transformation
    if transformation is None or definition.out_schema is None:
        return None
    if transformation.mapping is not None:
        return MappingTransformer(transformation.mapping, definition.out_schema)
    return None
