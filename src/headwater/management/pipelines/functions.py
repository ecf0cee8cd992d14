"""Whether the function of a pipeline can run: tried when the pipeline is to be enabled, by loading it in a sandbox.

A pipeline that is disabled may hold a function that is not finished; one that is enabled may not, since its mistake
would show in nothing but the events that fail.
"""

import secrets

from headwater.catalog import Definition
from headwater.management.pipelines.kinds import INCOMING_EVENT_SCHEMA, Kind
from headwater.schemas import parse_schema
from headwater.transforms.functions import Runner


async def check_function_loads(functions: Runner, kind: Kind, definition: Definition) -> None:
    """Raises Unprocessable with TransformationFailed when the function does not compile or has no `transform`, and
    Unavailable when there is no sandbox to try it in."""
    transformation = definition.transformation
    if transformation is None or transformation.function is None:
        return
    function = transformation.function.function(owner=secrets.token_hex(16))  # what it remembers is nobody else's
    in_schema = INCOMING_EVENT_SCHEMA if kind.reads_events else parse_schema(definition.in_schema or "null")
    await functions.check(function, in_schema, parse_schema(definition.out_schema or "null"))
