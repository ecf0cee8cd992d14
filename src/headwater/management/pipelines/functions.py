"""Checks that the function of a pipeline can run, by loading it in a sandbox before the pipeline is enabled.

A disabled pipeline may contain an unfinished function. In an enabled pipeline, a mistake would show only in failed
events.
"""

import secrets

from headwater.base.computing import Computing
from headwater.catalog import Definition
from headwater.management.pipelines.kinds import INCOMING_EVENT_SCHEMA, Kind
from headwater.management.transformations import TRIAL_SECONDS, TRIAL_WAIT_SECONDS
from headwater.schemas import parse_schema
from headwater.transforms.functions import Prepared, Runner, prepare


async def check_function_loads(
    functions: Runner, computing: Computing, owner: str, kind: Kind, definition: Definition
) -> None:
    """Load the function of a pipeline in the owner's share of the sandboxes, for at most `TRIAL_SECONDS`.

    Raises Unprocessable with TransformationFailed if the function does not compile or has no `transform`,
    TooManyRequests if too many trials of the owner wait, and Unavailable if no sandbox is available.
    """
    transformation = definition.transformation
    if transformation is None or transformation.function is None:
        return
    prepared = await computing.run(owner, _prepared, definition, reads_events=kind.reads_events)
    await functions.load_prepared(prepared, TRIAL_SECONDS, owner=owner, wait=TRIAL_WAIT_SECONDS)


def _prepared(definition: Definition, *, reads_events: bool) -> Prepared:
    assert definition.transformation is not None and definition.transformation.function is not None
    # A trial has an owner of its own, because the state of a function belongs to its owner.
    function = definition.transformation.function.function(owner=secrets.token_hex(16))
    in_schema = INCOMING_EVENT_SCHEMA if reads_events else parse_schema(definition.in_schema or "null")
    return prepare(function, [], in_schema, parse_schema(definition.out_schema or "null"), "Import")
