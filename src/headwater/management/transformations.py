"""Tries a transformation on one record before it is saved.

A trial of a mapping is one computation, `begin_trial`. For a function, its program then runs in a sandbox, and
`end_trial` reads the result. Both are pure, so that they can run in another process.
"""

import secrets
from typing import Final, get_args

import msgspec

from headwater.base.errors import BadRequest, Unprocessable
from headwater.catalog import FunctionDefinition, TransformationDefinition
from headwater.management.bounds import check_expressions
from headwater.schemas import Codec, InvalidValue, Record, Schema, all_optional, check_size
from headwater.transforms.functions import (
    LANGUAGES,
    Function,
    Prepared,
    RecordError,
    Runner,
    RunOutput,
    outcomes,
    prepare,
)
from headwater.transforms.mapping import CompiledMapping, InvalidMapping, MappingFailed, Purpose

PURPOSES: Final[tuple[Purpose, ...]] = get_args(Purpose)
TRIAL_SECONDS: Final = 2.0
"""Maximum duration of a function in a trial, and of loading it when its pipeline is saved."""
TRIAL_WAIT_SECONDS: Final = 10.0
"""Maximum time that a trial waits for a sandbox. It is shorter than the time that callers wait for a response."""


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """The transformation and the record of a trial; an absent member is None or empty."""

    data: str | bytes
    in_schema: Schema | None
    out_schema: Schema | None
    transformation: TransformationDefinition | None
    purpose: str


def trial_owner() -> str:
    """Return a unique owner for the function of one trial, so that its state between calls is visible to no other."""
    return secrets.token_hex(16)


def begin_trial(trial: Trial, owner: str) -> bytes | Prepared:
    """Return the JSON that a mapping produces from the data, or the prepared program of a function.

    The limits are those of pipelines: MAX_PROPERTIES of each schema, and MAX_RESULT_CHARACTERS of the result. Raises
    BadRequest for a transformation that could not be saved, Unprocessable with UnsupportedLanguage, and with
    TransformationFailed if the record cannot be transformed.
    """
    in_schema, out_schema, transformation = _checked(trial)
    purpose = _purpose(trial)
    check_size(in_schema, "inSchema")
    check_size(out_schema, "outSchema")
    try:
        record = Codec(in_schema).decode(trial.data)
    except InvalidValue as error:
        raise BadRequest(f"data: {error.message}", field=f"data.{error.path}".rstrip(".")) from error
    if transformation.mapping is None:
        return prepare(_function(transformation, owner), [record], in_schema, out_schema, purpose)
    check_expressions(transformation.mapping.values(), "transformation.mapping")
    try:
        mapping = CompiledMapping(transformation.mapping, in_schema, out_schema)
    except InvalidMapping as error:
        raise BadRequest(f"transformation.mapping: {error.message}", field="transformation.mapping") from error
    result = next(mapping.apply_all([record], purpose))
    if isinstance(result, MappingFailed):
        raise result
    return _encoded(result, out_schema)


def end_trial(trial: Trial, owner: str, ran: RunOutput) -> bytes:
    """Return the JSON of the value that a function returned in a trial. Raises Unprocessable with
    TransformationFailed."""
    in_schema, out_schema, transformation = _checked(trial)
    function = _function(transformation, owner)
    [outcome] = outcomes(function, ran, 1, in_schema, out_schema, _purpose(trial))
    if isinstance(outcome, RecordError):
        where = "" if outcome.line is None else f" (line {outcome.line})"
        raise Unprocessable("TransformationFailed", f"{outcome.message}{where}")
    return _encoded(outcome, out_schema)


async def run_trial(runner: Runner, prepared: Prepared, workspace: str) -> RunOutput:
    """Run the function of a trial in this workspace's share of the sandboxes.

    Raises Unprocessable with TransformationFailed; TooManyRequests if too many trials of the workspace wait;
    Unavailable.
    """
    if prepared.language not in runner.languages():
        raise Unprocessable("UnsupportedLanguage", f"functions in {prepared.language} cannot run here")
    return await runner.run_prepared(prepared, TRIAL_SECONDS, owner=workspace, wait=TRIAL_WAIT_SECONDS)


def _checked(trial: Trial) -> tuple[Schema, Schema, TransformationDefinition]:
    if trial.in_schema is None:
        raise BadRequest("inSchema is required", field="inSchema")
    if trial.out_schema is None:
        raise BadRequest("outSchema is required", field="outSchema")
    transformation = trial.transformation
    if transformation is None or (transformation.mapping is None) == (transformation.function is None):
        raise BadRequest("transformation must have either a mapping or a function", field="transformation")
    return trial.in_schema, trial.out_schema, transformation


def _purpose(trial: Trial) -> Purpose:
    chosen = next((one for one in PURPOSES if one == (trial.purpose or "Import")), None)
    if chosen is None:
        raise BadRequest(f"purpose must be one of {', '.join(PURPOSES)}", field="purpose")
    return chosen


def _function(transformation: TransformationDefinition, owner: str) -> Function:
    definition: FunctionDefinition | None = transformation.function
    assert definition is not None, "it is checked before"
    function = definition.function(owner=owner)
    if function.language not in LANGUAGES:
        raise Unprocessable("UnsupportedLanguage", f"functions in {function.language} cannot run here")
    return function


def _encoded(result: Record, out_schema: Schema) -> bytes:
    try:
        return Codec(all_optional(out_schema)).encode(result)
    except InvalidValue as error:
        raise Unprocessable("TransformationFailed", f"the result does not fit outSchema: {error.message}") from error
