"""Imports of one pipeline on a real state store and catalog, from files and applications in memory."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, Definition, Pipeline, TransformationDefinition, open_catalog
from headwater.connectors.connector import Capabilities, Connector
from headwater.connectors.contract import Engine, FileStorage, QuerySource, UserSource
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.registry import CONNECTORS
from headwater.runs.importing import execute_import
from headwater.runs.job import Job, Report
from headwater.schemas import ObjectType, Property, StringType, serialise
from headwater.state import StateStore, open_state
from headwater.state.runs import STEPS, Run, RunProgress
from headwater.transforms.functions import Runner
from tests.connectors.reference.files import MemoryStorage
from tests.harness import KEYRING, MovableClock, add_workspace
from tests.sqlite import migrated_url

TEXT = StringType()
_SOURCE = Capabilities(targets=("User",))


def schema(*properties: Property, **texts: Any) -> str:
    """Return the text of a schema with these properties, and properties of kind string by name."""
    return serialise(ObjectType((*properties, *(Property(name, type_) for name, type_ in texts.items())))).decode()


@dataclass
class Scenario:
    """An installation with one pipeline."""

    folder: Path
    clock: MovableClock
    catalog: Catalog
    state: StateStore
    functions: Runner
    pipeline: Pipeline
    connection: Connection
    storage: MemoryStorage
    runs: int = 0
    reports: list[Report] = field(default_factory=list)

    def job(self, *, incremental: bool = False, run: int | None = None, fence: int = 1) -> Job:
        """Return the job of a new run, or of a run that continues."""
        if run is None:
            self.runs += 1
            run = self.runs
        report = Report()
        self.reports.append(report)
        scratch = self.folder / "scratch"
        scratch.mkdir(exist_ok=True)
        return Job(
            run=Run(
                id=run,
                workspace=self.pipeline.workspace,
                pipeline=self.pipeline.id,
                connection=self.connection.id,
                trigger="Request",
                is_incremental=incremental,
                fence=fence,
                created_at=0,
            ),
            pipeline=self.pipeline,
            connection=self.connection,
            connector=self.catalog.connectors[self.connection.connector],
            catalog=self.catalog,
            state=self.state,
            environment=ConnectorEnvironment(clock=self.clock),
            functions=self.functions,
            clock=self.clock,
            report=report,
            scratch=scratch,
        )

    async def run(self, *, incremental: bool = False) -> Report:
        """Execute a run to its end, and return its report."""
        job = self.job(incremental=incremental)
        await execute_import(job)
        return job.report

    async def redefine(self, **members: Any) -> None:
        """Change members of the definition."""
        changed = msgspec.structs.replace(
            self.pipeline, definition=msgspec.structs.replace(self.pipeline.definition, **members)
        )
        async with self.catalog.change() as change:
            change.update_pipeline(changed)
        self.pipeline = changed

    async def identities(self) -> dict[str, dict[str, Any]]:
        """Return the attributes of the identities by id."""
        return {id_: attributes for id_, (_, attributes) in (await self.stored()).items()}

    async def stored(self) -> dict[str, tuple[int, dict[str, Any]]]:
        """Return the update time and the attributes of the identities by id."""
        text = f"SELECT identity_id, updated_at, attributes FROM identities WHERE pipeline = {self.pipeline.id}"
        rows = await self.state.read(lambda connection: connection.exec_driver_sql(text).all())
        return {row[0]: (row[1], msgspec.json.decode(row[2])) for row in rows}

    async def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows of a query on the state store."""
        return await self.state.read(lambda connection: [tuple(row) for row in connection.exec_driver_sql(query)])


@asynccontextmanager
async def open_scenario(
    folder: Path,
    definition: Definition,
    *,
    database_url: str | None = None,
    users: UserSource | None = None,
    database: QuerySource | None = None,
    storage: FileStorage | None = None,
) -> AsyncIterator[Scenario]:
    """Open an installation with a pipeline of an application, a database, or else a storage of files."""
    clock, files = MovableClock(), MemoryStorage()
    kept = files if storage is None else storage
    connectors: Mapping[str, Connector] = {
        **CONNECTORS,
        "tests-app": Connector(
            code="tests-app", label="App", type="Application", source=_SOURCE, available=True,
            engine=Engine(user_source=lambda _settings, _context: users),  # type: ignore[arg-type, return-value]
        ),
        "tests-db": Connector(
            code="tests-db", label="Database", type="Database", source=_SOURCE, available=True,
            engine=Engine(query_source=lambda _settings, _context: database),  # type: ignore[arg-type, return-value]
        ),
        "tests-files": Connector(
            code="tests-files", label="Files", type="FileStorage", source=_SOURCE, available=True,
            engine=Engine(file_storage=lambda _settings, _context: kept),
        ),
    }  # fmt: skip
    code = "tests-app" if users is not None else "tests-files" if database is None else "tests-db"
    identifiers = Identifiers()
    async with (
        open_catalog(
            database_url or migrated_url(folder / "catalog.db"),
            clock=clock, identifiers=identifiers, connectors=connectors, keyring=KEYRING,
        ) as catalog,
        open_state(database_url or migrated_url(folder / "state.db"), writes=True, clock=clock) as state,
        Runner(javascript=1, python=1) as functions,
    ):  # fmt: skip
        workspace = await add_workspace(catalog)
        async with catalog.change() as change:
            connection = Connection(
                id=change.new_id(), workspace=workspace.id, name="Source", connector=code, role="Source",
                strategy=None, sending_mode=None, created_at=change.now,
            )  # fmt: skip
            change.add_connection(connection)
            pipeline = Pipeline(
                id=change.new_id(), workspace=workspace.id, connection=connection.id, name="Import", target="User",
                enabled=True, created_at=change.now, definition=definition,
            )  # fmt: skip
            change.add_pipeline(pipeline)
        yield Scenario(folder, clock, catalog, state, functions, pipeline, connection, files)


def csv_definition(**members: Any) -> Definition:
    """Return the definition of a pipeline of the file users.csv with the columns id, email and changed."""
    defaults: dict[str, Any] = {
        "in_schema": schema(id=TEXT, email=TEXT, changed=TEXT),
        "out_schema": schema(email=TEXT),
        "transformation": TransformationDefinition(mapping={"email": "email"}),
        "format": "csv",
        "path": "users.csv",
        "format_settings": {"separator": ",", "hasColumnNames": True},
        "user_id_column": "id",
        "updated_at_column": "changed",
        "updated_at_format": "ISO8601",
    }
    return Definition(**{**defaults, **members})


def passed(progress: RunProgress) -> dict[str, tuple[int, int]]:
    """Return the records that passed and failed, by step, without steps that no record reached."""
    counts = zip(STEPS, progress.passed, progress.failed, strict=True)
    return {step: (each, failed) for step, each, failed in counts if each or failed}
