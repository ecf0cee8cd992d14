"""An export reads only the profiles that changed since the last one, and ends as if it had compared all of them."""

import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from sqlalchemy import Connection, delete

from headwater.catalog import TransformationDefinition
from headwater.connectors.contract import Engine
from headwater.runs.exporting import pausing, selecting, tables
from headwater.runs.exporting.recording import Recorder
from headwater.runs.exporting.selecting import read_rows
from headwater.runs.job import Job, Report, RunCancelled, RunFailed
from headwater.state.profiles.exporting import ProfileSelection, ProfileStream
from headwater.state.profiles.tables import export_checkpoints
from headwater.storage.statements import fetch
from tests.runs.exporting.installation import (
    WORKSPACE,
    Installation,
    connector,
    counts,
    errors,
    kpid,
    open_installation,
)
from tests.runs.exporting.test_export_tables import MAPPING, Sink, add, people

NOT_OUT = '{"logical":"and","conditions":[{"property":"name","operator":"is not","values":["out"]}]}'
IS_A = '{"logical":"and","conditions":[{"property":"name","operator":"is","values":["a"]}]}'
"""A filter by which the database finds the profiles itself."""
FAILING: dict[str, Any] = {"email": "5@x", "name": 5}
"""A profile that does not conform to the schema."""


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


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The ids of the profiles that runs have read."""
    found: list[int] = []

    async def note(job: Job, stream: Any) -> Sequence[Any]:
        rows = await read_rows(job, stream)
        found.extend(row[0] for row in rows if len(row) > 2)
        return rows

    monkeypatch.setattr(tables, "read_rows", note)
    return found


async def test_only_changed_and_failed_profiles_are_read(
    installation: Installation, sink: Sink, read: list[int]
) -> None:
    pipeline = await add(installation)
    await installation.write_profiles(people(*range(1, 7)) | people(4, age=2_000) | {5: FAILING, 6: {"name": "none"}})

    async def export(**options: Any) -> tuple[list[int], Report]:
        read.clear()
        report = await installation.export(pipeline, **options)
        return list(read), report

    found, report = await export()
    assert found == [1, 2, 3, 4, 5, 6]
    assert sorted(ids for found in errors(report).values() for ids in found) == [kpid(4), kpid(5), kpid(6)]
    assert counts(report)["Finalize"] == (3, 1)

    found, report = await export()
    assert found == [4, 5, 6]  # failed profiles are tried again, and counted again
    assert report.progress.unchanged == 3 and report.progress.rows == 6
    assert counts(report) == {
        "Receive": (6, 0),
        "InputValidation": (2, 1),
        "Transformation": (2, 0),
        "OutputValidation": (1, 1),
        "Finalize": (0, 1),
    }

    await installation.write_profiles(people(2, name="new") | people(5, 6))
    found, report = await export()
    assert found == [2, 4, 5, 6] and report.progress.unchanged == 2
    assert sink.batches[-1] == [("2@x", "new", None), ("5@x", "n5", None), ("6@x", "n6", None)]

    assert (await export(is_full=True))[0] == [1, 2, 3, 4, 5, 6]
    assert (await export(fence=2))[0] == [1, 2, 3, 4, 5, 6]  # a run that is resumed
    assert (await export())[0] == [4]
    pipeline = await installation.change_pipeline(pipeline, filter=NOT_OUT)
    assert (await export())[0] == [1, 2, 3, 4, 5, 6]
    pipeline = await installation.change_pipeline(
        pipeline, transformation=TransformationDefinition(mapping=MAPPING | {"name": "email"})
    )
    assert (await export())[0] == [1, 2, 3, 4, 5, 6]
    assert (await export())[0] == [4]


async def test_a_profile_that_failed_for_a_while_and_did_not_change_is_not_sent(
    installation: Installation, sink: Sink
) -> None:
    pipeline = await add(installation)
    await installation.write_profiles(people(5))
    for given in (people(5), {5: FAILING}, people(5)):
        await installation.write_profiles(given)
        await installation.export(pipeline)
    assert len(sink.batches) == 1
    assert not (await installation.records())[5].is_failed


async def test_a_run_that_fails_leaves_what_changed_due(
    installation: Installation, sink: Sink, read: list[int]
) -> None:
    pipeline = await add(installation)
    await installation.write_profiles(people(1, 2, 3))
    await installation.export(pipeline)
    await installation.write_profiles(people(2, age=7))
    sink.failures = 1_000
    with pytest.raises(RunFailed):
        await installation.export(pipeline)
    sink.failures = 0
    await installation.write_profiles(people(3, age=8))
    read.clear()
    await installation.export(pipeline)
    assert read == [2, 3] and sink.batches[-1] == [("2@x", "n2", 7), ("3@x", "n3", 8)]


async def test_a_run_can_be_cancelled_while_the_database_sorts(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selecting, "_CHECK_SECONDS", 0.01)
    await installation.write_profiles(people(1))

    def sort(connection: Connection) -> list[Any]:
        if connection.dialect.name == "postgresql":
            return fetch(connection, "SELECT pg_sleep(60)")
        time.sleep(0.2)
        return []

    async def read(stream: ProfileStream, count: int = 0) -> list[Any]:
        return await stream._session.run(sort)

    job = Mock(report=Mock(check=Mock(side_effect=[None, None, RunCancelled])))
    with monkeypatch.context() as patched:
        patched.setattr(ProfileStream, "read", read)
        with pytest.raises(RunCancelled):
            async with installation.state.exports.read(ProfileSelection(workspace=WORKSPACE)) as stream:
                await read_rows(job, stream)
    async with installation.state.exports.read(ProfileSelection(workspace=WORKSPACE)) as stream:
        assert len(await stream.read()) == 1


async def test_the_records_of_a_profile_are_deleted_with_it(installation: Installation) -> None:
    pipeline = await add(installation)
    await installation.write_profiles(people(1, 2))
    await installation.export(pipeline)
    await installation.remove_profiles(2)
    assert (await installation.records()).keys() == {1}
    assert (await installation.export(pipeline)).progress.unchanged == 1


@pytest.mark.parametrize("filter", [NOT_OUT, IS_A])
async def test_a_profile_that_leaves_the_filter_loses_its_record_and_its_key(
    installation: Installation, sink: Sink, filter: str
) -> None:
    pipeline = await add(installation, filter=filter)
    await installation.write_profiles(people(1, 2, name="a"))
    await installation.export(pipeline)
    await installation.write_profiles(people(1, name="out"))
    assert (await installation.export(pipeline)).progress.unchanged == 1
    assert (await installation.records()).keys() == {2}
    await installation.write_profiles({3: {"email": "1@x", "name": "a"}})
    await installation.export(pipeline)
    assert sink.batches[-1] == [("1@x", "a", None)]


@pytest.mark.parametrize(("seed", "filter"), [(0, NOT_OUT), (1, NOT_OUT), (2, IS_A)])
async def test_after_any_changes_a_comparison_of_all_profiles_finds_nothing(
    installation: Installation, sink: Sink, seed: int, filter: str
) -> None:
    numbers = random.Random(seed)
    pipeline = await add(installation, filter=filter)
    present: dict[int, dict[str, Any]] = {}
    last = 0
    for _ in range(12):
        for _ in range(numbers.randrange(4)):
            id_ = numbers.choice([last + 1, *present])  # no id is used again
            if id_ in present and numbers.random() < 0.2:
                del present[id_]
                await installation.remove_profiles(id_)
                continue
            given: dict[str, Any] = {"email": f"{numbers.randrange(1, 9)}@x", "name": numbers.choice(["a", "b", "out"])}
            given |= numbers.choice([{}, {}, {"age": 2_000}, {"name": 5}])
            last, present[id_] = max(last, id_), given
            await installation.write_profiles({id_: given})
        if numbers.random() < 0.3:
            sink.failures = 1_000
            with suppress(RunFailed):
                await installation.export(pipeline)
            sink.failures = 0
        first = await installation.export(pipeline)
        records, rows = await installation.records(), sink.rows()
        async with installation.state.transaction() as transaction:
            await transaction.run(lambda connection: connection.execute(delete(export_checkpoints)))
        second = await installation.export(pipeline)
        assert second.progress.rows == first.progress.rows
        assert second.progress.failed == first.progress.failed
        assert second.progress.unchanged == sum(not record.is_failed for record in records.values())
        assert sink.rows() == rows
        assert (await installation.records()).keys() == records.keys() <= present.keys()


async def test_a_definition_that_comes_back_after_a_run_that_failed_is_compared_with_all(
    installation: Installation, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = await add(installation)
    await installation.write_profiles(people(1))
    await installation.export(pipeline)
    other = TransformationDefinition(mapping=MAPPING | {"name": "email"})
    changed = await installation.change_pipeline(pipeline, transformation=other)
    with monkeypatch.context() as patched:
        patched.setattr(Recorder, "complete", Mock(side_effect=RunFailed("Finalize", "the process was killed")))
        with pytest.raises(RunFailed):
            await installation.export(changed)
    assert sink.batches[-1] == [("1@x", "1@x", None)]

    pipeline = await installation.change_pipeline(changed, transformation=pipeline.definition.transformation)
    await installation.export(pipeline)
    assert sink.batches[-1] == [("1@x", "n1", None)]
