"""A catalog and a state store with profiles, and runs of export pipelines without a run process."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import msgspec
from sqlalchemy import select

from headwater.base.clock import microseconds
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, Definition, Pipeline, ProfileSchema, Workspace, open_catalog
from headwater.connectors.addresses import ANY_ADDRESS
from headwater.connectors.connector import Capabilities, Connector, ConnectorType, Role
from headwater.connectors.contract import Engine
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.registry import CONNECTORS
from headwater.runs.exporting import execute_export
from headwater.runs.job import Job, Report
from headwater.schemas import IntType, ObjectType, Property, Schema, StringType, serialise
from headwater.state import StateStore, open_state
from headwater.state.profiles import ProfileRow, tables
from headwater.state.profiles.exporting import ExportRecord
from headwater.state.profiles.model import no_changes
from headwater.state.runs import STEPS, Run
from headwater.transforms.functions import Runner
from tests.harness import NOW, MovableClock
from tests.sqlite import migrated_url

WORKSPACE: Final = 7
CONNECTION: Final = 101
PIPELINE: Final = 1001
PROFILE_SCHEMA: Final[Schema] = ObjectType(
    (
        Property("email", StringType(), read_optional=True),
        Property("name", StringType(), read_optional=True),
        Property("age", IntType(32), read_optional=True),
    )
)


def kpid(number: int) -> str:
    return str(UUID(int=number))


def connector(code: str, type_: ConnectorType, engine: Engine) -> Connector:
    """Return a connector of the tests, with users in both roles."""
    capabilities = Capabilities(targets=("User",))
    return Connector(
        code=code,
        label=code.capitalize(),
        type=type_,
        source=capabilities,
        destination=capabilities,
        available=True,
        engine=engine,
        file_extension="csv",
    )


class Installation:
    """The stores, a workspace with a profile schema, and destinations."""

    def __init__(
        self, catalog: Catalog, state: StateStore, functions: Runner, clock: MovableClock, folder: Path
    ) -> None:
        self.catalog = catalog
        self.state = state
        self.functions = functions
        self.clock = clock
        self.folder = folder
        self._runs = 0

    async def add_pipeline(
        self,
        connector_code: str,
        *,
        id_: int = PIPELINE,
        connection: int = CONNECTION,
        role: Role = "Destination",
        **members: Any,
    ) -> Pipeline:
        """Add a pipeline, and its connection if that does not exist."""
        schema = members.pop("in_schema", PROFILE_SCHEMA)
        out = members.pop("out_schema", None)
        definition = Definition(
            in_schema=serialise(schema).decode(), out_schema=None if out is None else serialise(out).decode(), **members
        )
        pipeline = Pipeline(
            id=id_,
            workspace=WORKSPACE,
            connection=connection,
            name="Export",
            target="User",
            enabled=True,
            created_at=NOW,
            definition=definition,
        )
        await self.add_connection(connector_code, connection, role)
        if self.catalog.pipeline(WORKSPACE, id_) is None:
            async with self.catalog.change() as change:
                change.add_pipeline(pipeline)
        return pipeline

    async def add_connection(self, connector_code: str, id_: int, role: Role) -> Connection:
        """Return the connection with this id, which is added if it does not exist."""
        found = self.catalog.connection(WORKSPACE, id_)
        if found is None:
            found = Connection(
                id=id_,
                workspace=WORKSPACE,
                name=f"c{id_}",
                connector=connector_code,
                role=role,
                strategy=None,
                sending_mode=None,
                created_at=NOW,
            )
            async with self.catalog.change() as change:
                change.add_connection(found)
        return found

    async def change_pipeline(self, pipeline: Pipeline, **members: Any) -> Pipeline:
        """Change members of the definition."""
        changed = msgspec.structs.replace(pipeline, definition=msgspec.structs.replace(pipeline.definition, **members))
        async with self.catalog.change() as change:
            change.update_pipeline(changed)
        return changed

    async def write_profiles(self, profiles: Mapping[int, Mapping[str, Any]], workspace: int = WORKSPACE) -> None:
        """Write profiles by id, as the worker does."""
        changes = no_changes(workspace)
        for id_, given in profiles.items():
            text = msgspec.json.encode(given).decode()
            changes.profiles.append(ProfileRow(id_, workspace, UUID(int=id_).bytes, id_, 0, text))
        async with self.state.transaction() as transaction:
            await transaction.on_profiles(lambda rows: rows.write(changes))

    async def remove_profiles(self, *ids: int) -> None:
        """Delete profiles, as the worker does when it merges or erases them."""
        changes = no_changes(WORKSPACE)
        changes.removed_profiles.extend(ids)
        async with self.state.transaction() as transaction:
            await transaction.on_profiles(lambda rows: rows.write(changes))

    async def records(self, pipeline: int = PIPELINE) -> dict[int, ExportRecord]:
        """Return the records of exports by profile."""
        columns = [column for column in tables.exports.c if column.name != "pipeline"]
        query = select(*columns).where(tables.exports.c.pipeline == pipeline)
        rows = await self.state.read(lambda connection: connection.execute(query).all())
        return {
            profile: ExportRecord(profile, source, content, external_id, bool(is_failed), run)
            for profile, source, content, external_id, is_failed, run in rows
        }

    def job(
        self,
        pipeline: Pipeline,
        *,
        run: int | None = None,
        fence: int = 1,
        is_full: bool = False,
        report: Report | None = None,
    ) -> Job:
        """Return the job of a run; by default a new one."""
        if run is None:
            self._runs += 1
            run = self._runs
        connection = self.catalog.connection(WORKSPACE, pipeline.connection)
        assert connection is not None
        scratch = self.folder / f"scratch-{run}-{fence}"
        scratch.mkdir()
        now = microseconds(self.clock.now())
        return Job(
            run=Run(
                id=run,
                workspace=WORKSPACE,
                pipeline=pipeline.id,
                connection=connection.id,
                trigger="Request",
                is_incremental=False,
                is_full=is_full,
                status="Running",
                fence=fence,
                created_at=now,
                started_at=now,
            ),
            pipeline=pipeline,
            connection=connection,
            connector=self.catalog.connectors[connection.connector],
            catalog=self.catalog,
            state=self.state,
            environment=ConnectorEnvironment(
                addresses=ANY_ADDRESS, clock=self.clock, filesystem_root=self.folder / "files"
            ),
            functions=self.functions,
            clock=self.clock,
            report=report or Report(),
            scratch=scratch,
        )

    async def export(self, pipeline: Pipeline, **options: Any) -> Report:
        """Run an export to its end, and return its report."""
        job = self.job(pipeline, **options)
        await execute_export(job)
        return job.report


def counts(report: Report) -> dict[str, tuple[int, int]]:
    """Return the numbers of records that passed and that failed, by step, without steps that have none."""
    progress = report.progress
    pairs = zip(STEPS, progress.passed, progress.failed, strict=True)
    return {step: (passed, failed) for step, passed, failed in pairs if passed or failed}


def errors(report: Report) -> dict[str, list[str]]:
    """Return the ids of the failed records by step and message."""
    return {
        f"{step}: {message}": [sample.id for sample in summary.samples]
        for (step, message), summary in report.take_errors().items()
    }


@asynccontextmanager
async def open_installation(
    folder: Path,
    database_url: str | None,
    connectors: Sequence[Connector],
    schema: Schema = PROFILE_SCHEMA,
) -> AsyncIterator[Installation]:
    """Open an installation with these connectors as well."""
    clock = MovableClock()
    url = database_url or migrated_url(folder / "state.db")
    known = {**CONNECTORS, **{each.code: each for each in connectors}}
    async with AsyncExitStack() as exits:
        catalog = await exits.enter_async_context(
            open_catalog(
                database_url or migrated_url(folder / "catalog.db"),
                clock=clock,
                identifiers=Identifiers(),
                connectors=known,
            )
        )
        state = await exits.enter_async_context(open_state(url, writes=True, clock=clock))
        functions = await exits.enter_async_context(Runner())
        if catalog.workspace(WORKSPACE) is None:
            async with catalog.change() as change:
                change.add_workspace(
                    Workspace(id=WORKSPACE, name="W", created_at=NOW, profile_schema=ProfileSchema(schema=schema))
                )
        yield Installation(catalog, state, functions, clock, folder)
