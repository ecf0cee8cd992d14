"""Tries a transformation on one record, before it is saved."""

import asyncio
import secrets
from typing import Final, get_args

from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import FunctionDefinition, TransformationDefinition
from headwater.schemas import Codec, InvalidValue, Record, Schema, all_optional, check_size
from headwater.transforms.functions import RecordError, Runner
from headwater.transforms.mapping import CompiledMapping, InvalidMapping, MappingFailed, Purpose

PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)


async def transform_data(
    runner: Runner,
    data: str | bytes,
    in_schema: Schema | None,
    out_schema: Schema | None,
    transformation: TransformationDefinition | None,
    purpose: str,
) -> bytes:
    """What the transformation makes of `data`, a JSON object of the input schema, as JSON.

    Everything is computed in a thread, or in a sandbox. The limits are those of pipelines: MAX_PROPERTIES of each
    schema, and MAX_RESULT_CHARACTERS of the result.

    Raises BadRequest for what could not be saved either, Unprocessable with UnsupportedLanguage, and with
    TransformationFailed when the record cannot be transformed.
    """
    if in_schema is None:
        raise BadRequest("inSchema is required", field="inSchema")
    if out_schema is None:
        raise BadRequest("outSchema is required", field="outSchema")
    if transformation is None or (transformation.mapping is None) == (transformation.function is None):
        raise BadRequest("transformation must have either a mapping or a function", field="transformation")
    chosen = next((one for one in PURPOSES if one == (purpose or "Import")), None)
    if chosen is None:
        raise BadRequest(f"purpose must be one of {', '.join(PURPOSES)}", field="purpose")
    check_size(in_schema, "inSchema")
    check_size(out_schema, "outSchema")
    record = await asyncio.to_thread(_read, data, in_schema)
    if transformation.mapping is not None:
        return await asyncio.to_thread(_map, transformation.mapping, record, in_schema, out_schema, chosen)
    assert transformation.function is not None
    result = await _run(runner, transformation.function, record, in_schema, out_schema, chosen)
    return await asyncio.to_thread(_write, result, out_schema)


def _read(data: str | bytes, schema: Schema) -> Record:
    try:
        return Codec(schema).decode(data)
    except InvalidValue as error:
        raise BadRequest(f"data: {error.message}", field=f"data.{error.path}".rstrip(".")) from error


def _map(expressions: dict[str, str], record: Record, in_schema: Schema, out_schema: Schema, purpose: Purpose) -> bytes:
    try:
        mapping = CompiledMapping(expressions, in_schema, out_schema)
    except InvalidMapping as error:
        raise BadRequest(f"transformation.mapping: {error.message}", field="transformation.mapping") from error
    result = next(mapping.apply_all([record], purpose))
    if isinstance(result, MappingFailed):
        raise result
    return _write(result, out_schema)


def _write(result: Record, schema: Schema) -> bytes:
    try:
        return Codec(all_optional(schema)).encode(result)
    except InvalidValue as error:
        raise Unprocessable("TransformationFailed", f"the result does not fit outSchema: {error.message}") from error


async def _run(
    runner: Runner,
    definition: FunctionDefinition,
    record: Record,
    in_schema: Schema,
    out_schema: Schema,
    purpose: Purpose,
) -> Record:
    function = definition.function(owner=secrets.token_hex(16))  # what it remembers is nobody else's
    if function.language not in runner.languages():
        raise Unprocessable("UnsupportedLanguage", f"functions in {function.language} cannot run here")
    function.check_paths(in_schema, out_schema)
    [outcome] = await runner.run(function, [record], in_schema, out_schema, purpose=purpose)
    if isinstance(outcome, RecordError):
        where = "" if outcome.line is None else f" (line {outcome.line})"
        raise Unprocessable("TransformationFailed", f"{outcome.message}{where}")
    return outcome
