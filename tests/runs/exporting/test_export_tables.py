"""Exports to tables: upserts of what differs, each key once, bad rows alone."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from headwater.base.errors import Unavailable
from headwater.catalog import FunctionDefinition, Pipeline, TransformationDefinition
from headwater.connectors.contract import NOT_ATTEMPTED, Engine, ItemResult, Row, TableWrite
from headwater.runs.exporting import execute_export, pausing, tables
from headwater.runs.exporting.recording import Recorder
from headwater.runs.job import Report, RunCancelled, RunFailed
from headwater.schemas import IntType, ObjectType, Property, StringType
from headwater.state import runprogress
from tests.connectors.reference.tables import SqliteSink
from tests.runs.exporting.installation import PIPELINE, Installation, connector, counts, errors, kpid, open_installation

OUT = ObjectType(
    (
        Property("email", StringType(), create_required=True),
        Property("name", StringType(), nullable=True),
        Property("age", IntType(64), nullable=True),
    )
)
MAPPING = {"email": "email", "name": "name", "age": "age"}
ALL = {
    "Receive": (3, 0),
    "InputValidation": (3, 0),
    "Transformation": (3, 0),
    "OutputValidation": (3, 0),
    "Finalize": (3, 0),
}


class Sink(SqliteSink):
    """A table of people. It counts its calls, and can fail in several ways."""

    def __init__(self) -> None:
        super().__init__()
        self.database.close()
        self.database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        self.database.execute(
            "CREATE TABLE people (email TEXT PRIMARY KEY NOT NULL, name TEXT, age INTEGER CHECK (age < 999), note TEXT)"
        )
        self.batches: list[list[Row]] = []
        self.failures = 0
        self.kill_after = -1
        self.names_rows = True

    def upsert(self, write: TableWrite, rows: Sequence[Row]) -> Sequence[ItemResult]:
        if self.failures:
            self.failures -= 1
            raise Unavailable("the database is down")
        results = super().upsert(write, rows)
        if any(result.reason for result in results) and not self.names_rows:
            results = [NOT_ATTEMPTED] * len(rows)
        if not any(result.outcome == "NotAttempted" for result in results):
            self.batches.append(list(rows))
        if len(self.batches) == self.kill_after:
            raise Killed
        return results

    def rows(self) -> list[Row]:
        return self.database.execute("SELECT email, name, age FROM people ORDER BY email").fetchall()

    def close(self) -> None:
        pass


class Killed(BaseException):
    """The process is killed here."""


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
async def installation(
    tmp_path: Path, database_url: str | None, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Installation]:
    monkeypatch.setattr(pausing, "next_delay", lambda previous, random: 0.001)
    made = connector("table", "Database", Engine(table_sink=lambda settings, context: sink))
    async with open_installation(tmp_path, database_url, [made]) as opened:
        yield opened


async def add(installation: Installation, **members: Any) -> Pipeline:
    given: dict[str, Any] = {
        "out_schema": OUT,
        "transformation": TransformationDefinition(mapping=MAPPING),
        "table_name": "people",
        "table_key": "email",
    } | members
    return await installation.add_pipeline("table", **given)


def people(*numbers: int, **more: Any) -> dict[int, dict[str, Any]]:
    return {number: {"email": f"{number}@x", "name": f"n{number}", **more} for number in numbers}


async def test_rows_are_inserted_and_then_only_what_differs(installation: Installation, sink: Sink) -> None:
    await installation.write_profiles(people(1, 2, 3))
    pipeline = await add(installation)
    assert counts(await installation.export(pipeline)) == ALL
    assert sink.rows() == [("1@x", "n1", None), ("2@x", "n2", None), ("3@x", "n3", None)]
    sink.database.execute("UPDATE people SET note = 'kept'")

    await installation.write_profiles(people(2, age=7))
    report = await installation.export(pipeline)
    assert counts(report) == {step: (3 if step == "Receive" else 1, 0) for step in ALL}
    assert report.progress.unchanged == 2
    assert sink.batches[1:] == [[("2@x", "n2", 7)]]
    assert sink.database.execute("SELECT DISTINCT note FROM people").fetchall() == [("kept",)]

    assert (await installation.export(pipeline)).progress.unchanged == 3
    assert len(sink.batches) == 2
    assert counts(await installation.export(pipeline, is_full=True)) == ALL
    assert len(sink.batches) == 3


async def test_a_change_that_is_not_written_sends_nothing(installation: Installation, sink: Sink) -> None:
    pipeline = await add(
        installation,
        in_schema=ObjectType((Property("email", StringType(), read_optional=True),)),
        out_schema=ObjectType(OUT.properties[:2]),
        transformation=TransformationDefinition(mapping={"email": "email", "name": "upper(email)"}),
    )
    await installation.write_profiles(people(1))
    await installation.export(pipeline)
    await installation.write_profiles({1: {"email": "1@x", "name": "other"}})
    for _ in range(2):
        report = await installation.export(pipeline)
        assert report.progress.unchanged == 1 and "Finalize" not in counts(report)
    assert len(sink.batches) == 1


async def test_a_missing_property_becomes_null(installation: Installation, sink: Sink) -> None:
    pipeline = await add(installation)
    await installation.write_profiles(people(1, age=3))
    await installation.export(pipeline)
    await installation.write_profiles({1: {"email": "1@x"}})
    await installation.export(pipeline)
    assert sink.rows() == [("1@x", None, None)]


async def test_another_mapping_sends_everything(installation: Installation, sink: Sink) -> None:
    await installation.write_profiles(people(1, 2))
    pipeline = await add(installation)
    await installation.export(pipeline)
    changed = await installation.change_pipeline(
        pipeline, transformation=TransformationDefinition(mapping=MAPPING | {"name": "upper(name)"})
    )
    await installation.export(changed)
    assert sink.rows() == [("1@x", "N1", None), ("2@x", "N2", None)]


async def test_pipelines_are_independent(installation: Installation, sink: Sink) -> None:
    await installation.write_profiles(people(1, 2))
    for id_ in (PIPELINE, PIPELINE + 1):
        await installation.export(await add(installation, id_=id_))
    assert len(sink.batches) == 2
    assert (await installation.records(PIPELINE)).keys() == (await installation.records(PIPELINE + 1)).keys() == {1, 2}


async def test_a_profile_without_the_key_fails(installation: Installation, sink: Sink) -> None:
    await installation.write_profiles({1: {"name": "a"}, **people(2)})
    report = await installation.export(await add(installation))
    assert counts(report)["OutputValidation"] == (1, 1) and counts(report)["Finalize"] == (1, 0)
    assert list(errors(report).values()) == [[kpid(1)]]
    assert sink.rows() == [("2@x", "n2", None)]


async def test_of_profiles_with_one_key_the_oldest_is_written(installation: Installation, sink: Sink) -> None:
    pipeline = await add(installation)
    await installation.write_profiles(people(1, 2) | {3: {"email": "1@x"}, 4: {"email": "1@x"}})
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (2, 2)
    [(message, ids)] = errors(report).items()
    assert message == f"Finalize: the row with its key is that of profile {kpid(1)}" and sorted(ids) == [
        kpid(3),
        kpid(4),
    ]
    assert sink.rows() == [("1@x", "n1", None), ("2@x", "n2", None)]

    report = await installation.export(pipeline)  # the row of a profile that is not written is kept
    assert counts(report)["Finalize"] == (0, 2) and report.progress.unchanged == 2
    await installation.write_profiles({1: {"email": "9@x"}})
    assert counts(await installation.export(pipeline))["Finalize"] == (2, 1)
    assert sink.rows() == [("1@x", None, None), ("2@x", "n2", None), ("9@x", None, None)]


@pytest.mark.parametrize("names_rows", [True, False])
async def test_a_rejected_row_fails_alone_and_stays_due(
    installation: Installation, sink: Sink, names_rows: bool
) -> None:
    sink.names_rows = names_rows
    pipeline = await add(installation)
    await installation.write_profiles(people(*range(1, 21)) | people(7, 13, age=2_000))
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (18, 2)
    assert [sorted(ids) for ids in errors(report).values()] == [[kpid(7), kpid(13)]]
    assert len(sink.rows()) == 18
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (0, 2) and report.progress.unchanged == 18
    sink.database.execute("ALTER TABLE people RENAME TO old")
    sink.database.execute("CREATE TABLE people (email TEXT PRIMARY KEY NOT NULL, name TEXT, age INTEGER, note TEXT)")
    assert counts(await installation.export(pipeline))["Finalize"] == (2, 0)
    assert (await installation.export(pipeline)).progress.unchanged == 20


async def test_a_database_that_is_down_for_a_moment_is_tried_again(installation: Installation, sink: Sink) -> None:
    await installation.write_profiles(people(1, 2, 3))
    sink.failures = 3
    assert counts(await installation.export(await add(installation))) == ALL


async def test_a_database_that_stays_down_fails_the_run(installation: Installation, sink: Sink) -> None:
    await installation.write_profiles(people(1, 2, 3))
    pipeline = await add(installation)
    sink.failures = 1_000
    with pytest.raises(RunFailed, match="the database is down; it was tried 8 times") as failure:
        await installation.export(pipeline)
    assert failure.value.step == "Finalize"
    sink.failures = 0
    assert counts(await installation.export(pipeline)) == ALL


async def test_a_changed_table_fails_the_run(installation: Installation, sink: Sink) -> None:
    await installation.write_profiles(people(1))
    pipeline = await add(installation)
    for statement, message in (
        ("ALTER TABLE people RENAME COLUMN name TO called", "property name no longer exists"),
        ("DROP TABLE people", "does not exist"),
    ):
        sink.database.execute(statement)
        with pytest.raises(RunFailed, match=message):
            await installation.export(pipeline)
    assert not sink.batches


async def test_profiles_that_are_gone_or_filtered_out_keep_their_rows(installation: Installation, sink: Sink) -> None:
    pipeline = await add(
        installation,
        filter='{"logical":"and","conditions":[{"property":"name","operator":"is not","values":["out"]}]}',
    )
    await installation.write_profiles(people(1, 2, 3))
    await installation.export(pipeline)
    await installation.remove_profiles(1)
    await installation.write_profiles({2: {"email": "2@x", "name": "out"}})
    await installation.export(pipeline)
    assert len(sink.rows()) == 3
    assert (await installation.records()).keys() == {3}
    await installation.write_profiles(people(2))
    assert counts(await installation.export(pipeline))["Finalize"] == (1, 0)


async def test_a_function_transforms_in_batches(installation: Installation, sink: Sink) -> None:
    source = """
def transform(user):
    if user["name"] == "n2":
        raise Exception("no")
    return {"email": user["email"], "name": user["name"].upper()}
"""
    function = FunctionDefinition(
        language="Python", source=source, in_paths=("email", "name"), out_paths=("email", "name")
    )
    pipeline = await add(
        installation,
        out_schema=ObjectType(OUT.properties[:2]),
        transformation=TransformationDefinition(function=function),
    )
    await installation.write_profiles(people(1, 2, 3))
    report = await installation.export(pipeline)
    assert counts(report)["Transformation"] == (2, 1) and counts(report)["Finalize"] == (2, 0)
    assert sink.rows() == [("1@x", "N1", None), ("3@x", "N3", None)]


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("stage", range(1, 5))
async def test_a_killed_run_is_resumed(
    installation: Installation, sink: Sink, stage: int, is_full: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_ROWS", 3)
    pipeline = await add(installation)
    await installation.write_profiles(people(*range(1, 11)) | {11: {"email": "3@x"}})
    if is_full:
        await installation.export(pipeline)
        sink.batches.clear()
    sink.kill_after = stage
    run = 50
    with pytest.raises(Killed):
        await installation.export(pipeline, run=run, is_full=is_full)
    sink.kill_after = -1
    stored = await installation.state.run_progress(run)
    assert stored is not None and stored.progress.passed[-1] == 3 * (stage - 1)
    report = await installation.export(pipeline, run=run, fence=2, is_full=is_full, report=Report(stored.progress))
    assert counts(report) == {
        "Receive": (11, 0),
        "InputValidation": (11, 0),
        "Transformation": (11, 0),
        "OutputValidation": (11, 0),
        "Finalize": (10, 1),
    }
    assert list(errors(report).values()) == [[kpid(11)]]
    written = [row[0] for batch in sink.batches for row in batch]
    repeated = {email for email in written if written.count(email) > 1}
    assert len(written) == 10 + len(repeated) and len(repeated) <= 3
    assert len(sink.rows()) == 10


async def test_a_process_that_comes_back_changes_nothing(installation: Installation, sink: Sink) -> None:
    await installation.write_profiles(people(1, 2))
    pipeline = await add(installation)
    job = installation.job(pipeline, run=60)
    async with installation.state.transaction() as transaction:
        await transaction.run(lambda connection: runprogress.take(connection, 60, pipeline.id, 2))
    with pytest.raises(RunCancelled):
        await execute_export(job)
    assert not sink.batches


async def test_a_run_that_is_cancelled_ends_and_the_next_continues(installation: Installation, sink: Sink) -> None:
    await installation.write_profiles(people(1, 2, 3))
    pipeline = await add(installation)
    job = installation.job(pipeline)
    sink.failures = 1_000
    original = sink.upsert

    def cancel(write: TableWrite, rows: Sequence[Row]) -> Sequence[ItemResult]:
        job.report.cancel()
        return original(write, rows)

    sink.upsert = cancel  # type: ignore[method-assign]
    with pytest.raises(RunCancelled):
        await execute_export(job)
    sink.upsert, sink.failures = original, 0  # type: ignore[method-assign]
    assert counts(await installation.export(pipeline)) == ALL


async def test_a_profile_that_is_erased_meanwhile_is_not_sent(
    installation: Installation, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    await installation.write_profiles(people(1, 2, 3))
    pipeline = await add(installation)
    job = installation.job(pipeline)
    original = Recorder.existing

    async def erase(recorder: Recorder, profiles: Sequence[int]) -> set[int]:
        await installation.remove_profiles(2)
        return await original(recorder, profiles)

    monkeypatch.setattr(Recorder, "existing", erase)
    await execute_export(job)
    assert [row[0] for row in sink.rows()] == ["1@x", "3@x"]
    assert (await installation.records()).keys() == {1, 3}


async def test_a_pipeline_that_was_deleted_sends_nothing(installation: Installation, sink: Sink) -> None:
    await installation.write_profiles(people(1))
    pipeline = await add(installation)
    job = installation.job(pipeline)
    async with installation.catalog.change() as change:
        change.remove_pipeline(pipeline)
    with pytest.raises(RunCancelled):
        await execute_export(job)
    assert not sink.batches


async def test_a_pipeline_that_is_deleted_meanwhile_sends_no_further_batch(
    installation: Installation, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "MAX_ROWS", 1)
    await installation.write_profiles(people(1, 2, 3))
    pipeline = await add(installation)
    job = installation.job(pipeline)
    original = Recorder.commit

    async def delete(recorder: Recorder, records: Sequence[Any]) -> None:
        async with installation.state.transaction() as transaction:
            await transaction.remove_runs_except([])  # as the worker does after the deletion
        await original(recorder, records)

    monkeypatch.setattr(Recorder, "commit", delete)
    with pytest.raises(RunCancelled):
        await execute_export(job)
    assert len(sink.batches) == 1 and not await installation.records()


async def test_the_row_of_a_profile_that_fails_is_not_taken_by_another_one(
    installation: Installation, sink: Sink
) -> None:
    await installation.write_profiles(people(1))
    pipeline = await add(installation)
    await installation.export(pipeline)
    await installation.write_profiles({1: {"email": "1@x", "name": 5}, 2: {"email": "1@x", "name": "other"}})
    report = await installation.export(pipeline)
    assert sink.rows() == [("1@x", "n1", None)]
    assert f"Finalize: the row with its key is that of profile {kpid(1)}" in errors(report)
