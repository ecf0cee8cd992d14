"""The profiles of an export: the schema of its pipeline, its filter, and its order."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final, TypeVar

from msgspec import Struct

from headwater.base.errors import BadRequest, HeadwaterError, Unavailable
from headwater.base.steps import ProcessingStep
from headwater.connectors.connector import Role, Target
from headwater.connectors.contract import ConnectorContext, Engine, Factory
from headwater.filters import CheckedFilter, check_filter, parse_json
from headwater.profiles.alignment import find_misalignment, find_profile_schema
from headwater.runs.capabilities import open_capability
from headwater.runs.job import Job, RunFailed
from headwater.schemas import InvalidValue, Schema, parse_path, parse_schema, property_at
from headwater.schemas.records import RecordReader
from headwater.state.profiles.exporting import ProfileSelection, RowStream
from headwater.state.profiles.searching import Order

STEP: Final[ProcessingStep] = "Finalize"
"""The step of a run that its destination ends."""
_Capability = TypeVar("_Capability")
_Result = TypeVar("_Result")
_CHECK_SECONDS: Final = 0.5
_ROLE: Role = "Destination"
_TARGET: Target = "User"


class ExportInput(Struct, frozen=True):
    """The input of an export."""

    schema: Schema
    reader: RecordReader
    filter: CheckedFilter | None

    def selection(
        self, job: Job, *, order_by: str = "", with_records: bool = False, since: int | None = None
    ) -> ProfileSelection:
        """Return the profiles to read. `order_by` is the path of a property; empty for the id. With `since`, a version,
        those are read that changed afterwards or could not be written."""
        order = None
        if order_by:
            order = Order(parse_path(order_by), property_at(self.schema, order_by).type)
        return ProfileSelection(
            workspace=job.pipeline.workspace,
            filter=self.filter,
            order=order,
            pipeline=job.pipeline.id if with_records else None,
            since=since,
        )


def read_input(job: Job) -> ExportInput:
    """Return the input of the pipeline. Raises RunFailed if its schema differs from the profile schema."""
    definition = job.pipeline.definition
    profiles = find_profile_schema(job.catalog, job.pipeline.workspace)
    if profiles is None:
        raise RunFailed("InputValidation", "the profiles of the workspace have no properties")
    difference = find_misalignment(definition, _ROLE, _TARGET, profiles)
    if difference is not None:
        raise RunFailed("InputValidation", f"inSchema differs from the profile schema: {difference.cause}")
    try:
        schema = read_schema(definition.in_schema)
        given = None if definition.filter is None else parse_json(definition.filter)
        checked = None if given is None else check_filter(given, schema, role=_ROLE, target=_TARGET)
    except BadRequest as error:
        raise RunFailed("InputValidation", f"the pipeline cannot be used: {error.message}") from error
    return ExportInput(schema, RecordReader(schema), checked)


@asynccontextmanager
async def open_destination(
    job: Job, capability: Callable[[Engine], Factory[_Capability] | None]
) -> AsyncIterator[tuple[_Capability, ConnectorContext]]:
    """Open a capability of the destination. Raises RunFailed."""
    opening = open_capability(job.catalog, job.connection, job.environment, capability)
    async with AsyncExitStack() as exits:
        yield await call(job.connector.label, exits.enter_async_context(opening))


async def call(what: str, result: Awaitable[_Result]) -> _Result:
    """Return the result of a call of the destination. Raises RunFailed with its reason."""
    try:
        return await result
    except HeadwaterError as error:
        raise RunFailed(STEP, f"{what} cannot be written: {error.message}") from error


def read_schema(text: str | None) -> Schema:
    """Return the schema of a pipeline, which has one. Raises BadRequest for another."""
    schema = None if text is None else parse_schema(text)
    if schema is None:
        raise BadRequest("a schema is missing")
    return schema


async def read_rows(job: Job, stream: RowStream) -> Sequence[Any]:
    """Return the next rows of a stream; none at the end. Raises RunFailed, and RunCancelled also while the database
    sorts."""
    job.report.check()
    reading = asyncio.ensure_future(stream.read())
    try:
        while not (await asyncio.wait({reading}, timeout=_CHECK_SECONDS))[0]:
            job.report.check()
        return reading.result()
    except Unavailable as error:
        raise RunFailed("Receive", f"the profiles cannot be read: {error.message}") from error
    finally:
        if not reading.done():
            reading.cancel()
            await asyncio.wait({reading})  # the caller closes the connection


def describe(error: InvalidValue) -> str:
    """Return the rule that a value breaks, with its path and without the value, so that equal errors are one."""
    rule = error.rule.partition(", not ")[0]
    return f"property «{error.path}» {rule}" if error.path else f"the profile {rule}"
