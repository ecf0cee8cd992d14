"""The checks of a request for a run, in their documented order."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater.base.clock import SystemClock
from headwater.base.errors import BadRequest, HeadwaterError, NotFound, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.catalog import Catalog, Connection, Definition, Pipeline
from headwater.management.runs import run_pipeline
from headwater.state.runs import RunStore, open_runs
from tests.sqlite import migrated_url


@pytest.fixture
async def runs(database_url: str | None, tmp_path: Path) -> AsyncIterator[RunStore]:
    url = database_url or migrated_url(tmp_path / "runs.db")
    async with open_runs(url, clock=SystemClock(), identifiers=Identifiers()) as store:
        yield store


async def make(catalog: Catalog, workspace: int, connector: str, role: Any = "Source", **values: Any) -> Pipeline:
    async with catalog.change() as change:
        connection = Connection(
            id=change.new_id(),
            workspace=workspace,
            name="C",
            connector=connector,
            role=role,
            strategy=None,
            sending_mode=None,
            created_at=change.now,
        )
        change.add_connection(connection)
        defaults = {"target": "User", "enabled": True, "name": "P", "schedule_start": 5}
        pipeline = Pipeline(
            id=change.new_id(),
            workspace=workspace,
            connection=connection.id,
            created_at=change.now,
            **{**defaults, **values},
        )
        change.add_pipeline(pipeline)
    return pipeline


INCREMENTAL = Definition(incremental=True, updated_at_column="at")

REFUSED: list[tuple[str, str, dict[str, Any], dict[str, Any], type[HeadwaterError], str, str]] = [
    ("dummy", "Destination", {"target": "Event", "enabled": False}, {}, BadRequest, "BadRequest", "with target Event"),
    ("http", "Source", {"enabled": False}, {"full": True}, BadRequest, "BadRequest", "cannot be run"),
    ("dummy", "Destination", {"enabled": False}, {"incremental": False}, BadRequest, "BadRequest", "destination"),
    ("dummy", "Source", {"enabled": False}, {"full": True}, BadRequest, "BadRequest", "source pipelines"),
    *(
        (connector, "Source", {"enabled": False}, {"incremental": True}, Unprocessable, "CannotRunIncrementally", "no")
        for connector in ("postgresql", "s3")
    ),
    ("dummy", "Source", {"enabled": False}, {"incremental": True}, Unprocessable, "PipelineDisabled", "is disabled"),
    ("dummy", "Source", {}, {}, Unprocessable, "RunInProgress", "is running"),
]


@pytest.mark.parametrize(("connector", "role", "values", "options", "error", "code", "words"), REFUSED)
async def test_the_first_broken_rule_is_the_error(
    catalog: Catalog,
    workspace: int,
    runs: RunStore,
    connector: str,
    role: str,
    values: dict[str, Any],
    options: dict[str, Any],
    error: type[HeadwaterError],
    code: str,
    words: str,
) -> None:
    pipeline = await make(catalog, workspace, connector, role, **values)
    if code == "RunInProgress":
        await run_pipeline(catalog, runs, workspace, pipeline.id)
    with pytest.raises(error) as refused:
        await run_pipeline(catalog, runs, workspace, pipeline.id, **options)
    assert refused.value.code == code and words in refused.value.message
    assert len(await runs.page(limit=9)) == (code == "RunInProgress")


async def test_another_workspace_has_no_such_pipeline(catalog: Catalog, workspace: int, runs: RunStore) -> None:
    pipeline = await make(catalog, workspace, "dummy")
    with pytest.raises(NotFound):
        await run_pipeline(catalog, runs, workspace + 1, pipeline.id)


@pytest.mark.parametrize(
    ("connector", "role", "definition", "options", "expected"),
    [
        ("dummy", "Source", Definition(), {}, (False, False)),
        ("dummy", "Source", Definition(), {"incremental": True}, (True, False)),
        ("dummy", "Source", INCREMENTAL, {}, (True, False)),
        ("dummy", "Source", INCREMENTAL, {"incremental": False}, (False, False)),
        ("postgresql", "Source", INCREMENTAL, {"incremental": True}, (True, False)),
        ("s3", "Source", Definition(), {"incremental": False}, (False, False)),
        ("dummy", "Destination", Definition(), {}, (False, False)),
        ("dummy", "Destination", Definition(), {"full": True}, (False, True)),
        ("s3", "Destination", Definition(), {"full": True}, (False, True)),
    ],
)
async def test_a_run_has_the_options_of_the_request_or_the_pipeline(
    catalog: Catalog,
    workspace: int,
    runs: RunStore,
    connector: str,
    role: str,
    definition: Definition,
    options: dict[str, Any],
    expected: tuple[bool, bool],
) -> None:
    pipeline = await make(catalog, workspace, connector, role, definition=msgspec.structs.replace(definition))
    run = await run_pipeline(catalog, runs, workspace, pipeline.id, **options)
    assert (run.is_incremental, run.is_full) == expected
    assert (run.workspace, run.pipeline, run.connection) == (workspace, pipeline.id, pipeline.connection)
