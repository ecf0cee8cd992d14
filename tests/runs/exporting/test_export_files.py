"""Exports to files: all profiles that pass the filter, in order, in one file or in none."""

import csv
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import pytest
from sqlalchemy import Connection

from headwater.connectors.contract import Engine
from headwater.filters import Condition, Filter, document
from headwater.runs.exporting import execute_export
from headwater.runs.exporting.recording import Recorder
from headwater.runs.job import RunCancelled, RunFailed
from headwater.schemas import ObjectType, Property, StringType
from headwater.state.profiles.exporting import ProfileExports, ProfileSelection, ProfileStream
from tests.connectors.reference.files import MemoryStorage
from tests.runs.exporting.installation import (
    PIPELINE,
    WORKSPACE,
    Installation,
    connector,
    counts,
    errors,
    kpid,
    open_installation,
)

FORMAT = {"separator": ","}


@pytest.fixture
def storage() -> MemoryStorage:
    return MemoryStorage()


@pytest.fixture
async def installation(tmp_path: Path, database_url: str | None, storage: MemoryStorage) -> AsyncIterator[Installation]:
    made = connector("memory", "FileStorage", Engine(file_storage=lambda settings, context: storage))
    async with open_installation(tmp_path, database_url, [made]) as opened:
        yield opened


async def add(installation: Installation, **members: Any) -> Any:
    given = {"format": "csv", "format_settings": FORMAT, "path": "people.csv", "order_by": "email"} | members
    return await installation.add_pipeline("memory", **given)


def rows(storage: MemoryStorage, name: str = "people.csv") -> list[list[str]]:
    return list(csv.reader(io.StringIO(storage.files[name].decode())))


async def test_profiles_are_written_in_the_order_of_a_property(
    installation: Installation, storage: MemoryStorage
) -> None:
    await installation.write_profiles(
        {
            1: {"email": "c@x"},
            2: {"email": "a@x", "age": 3},
            3: {"name": "no email"},
            4: {"email": "b@x"},
            5: {"email": "a@x"},
        }
    )
    await installation.write_profiles({9: {"email": "other@x"}}, workspace=8)
    report = await installation.export(await add(installation))
    assert rows(storage) == [
        ["email", "name", "age"],
        ["a@x", "", "3"],
        ["a@x", "", ""],
        ["b@x", "", ""],
        ["c@x", "", ""],
        ["", "no email", ""],
    ]
    assert counts(report) == {"Receive": (5, 0), "InputValidation": (5, 0), "Finalize": (5, 0)}


async def test_long_strings_are_ordered_by_their_whole_text(installation: Installation, storage: MemoryStorage) -> None:
    ends = ["c", "", "a", "aa", "\u00e9", "\N{GRINNING FACE}"]
    await installation.write_profiles({index: {"email": "x" * 64 + end} for index, end in enumerate(ends, 1)})
    await installation.export(await add(installation))
    assert [row[0] for row in rows(storage)[1:]] == ["x" * 64 + end for end in sorted(ends)]


async def test_numbers_are_ordered_as_numbers(installation: Installation, storage: MemoryStorage) -> None:
    await installation.write_profiles({index: {"age": age} for index, age in enumerate((10, -1, 9, 100), 1)})
    await installation.export(await add(installation, order_by="age"))
    assert [row[2] for row in rows(storage)[1:]] == ["-1", "9", "10", "100"]


async def test_only_profiles_that_pass_the_filter_are_written(
    installation: Installation, storage: MemoryStorage
) -> None:
    await installation.write_profiles({index: {"email": f"{index}@x", "age": index} for index in range(1, 6)})
    for logical, wanted in (("and", ["2@x", "3@x"]), ("or", [f"{index}@x" for index in range(1, 6)])):
        given = Filter(
            logical,
            (Condition("age", "is greater than", ("1",)), Condition("age", "is less than", ("4",))),
        )
        pipeline = await add(
            installation,
            id_=PIPELINE + (logical == "or"),
            filter=msgspec.json.encode(document(given)).decode(),
        )
        report = await installation.export(pipeline)
        assert [row[0] for row in rows(storage)[1:]] == wanted
        assert counts(report)["Receive"] == (len(wanted), 0)


async def test_a_file_without_profiles_has_a_header(installation: Installation, storage: MemoryStorage) -> None:
    report = await installation.export(await add(installation))
    assert rows(storage) == [["email", "name", "age"]]
    assert counts(report) == {}


async def test_placeholders_have_the_start_of_the_run(installation: Installation, storage: MemoryStorage) -> None:
    job = installation.job(await add(installation, path="${today}/${ NOW }/${unix}.csv"))
    installation.clock.advance(3_600)
    await execute_export(job)
    assert list(storage.files) == ["2026-11-22/2026-11-22-12-00-10/1795348810.csv"]


async def test_a_profile_that_does_not_conform_is_left_out(installation: Installation, storage: MemoryStorage) -> None:
    await installation.write_profiles({1: {"email": "a@x", "age": "old"}, 2: {"email": "b@x"}})
    report = await installation.export(await add(installation))
    assert [row[0] for row in rows(storage)[1:]] == ["b@x"]
    assert counts(report) == {"Receive": (2, 0), "InputValidation": (1, 1), "Finalize": (1, 0)}
    assert errors(report) == {"InputValidation: property «age» must be an integer": [kpid(1)]}


async def test_a_cancelled_run_leaves_the_file_as_it_was(installation: Installation, storage: MemoryStorage) -> None:
    storage.files["people.csv"] = b"before"
    await installation.write_profiles({1: {"email": "a@x"}})
    job = installation.job(await add(installation))
    job.report.cancel()
    with pytest.raises(RunCancelled):
        await execute_export(job)
    assert storage.files == {"people.csv": b"before"}


async def test_a_storage_that_fails_leaves_no_file(installation: Installation, storage: MemoryStorage) -> None:
    await installation.write_profiles({1: {"email": "a@x"}})
    for path, message in (("../x", "is not the name of a file"), ("x\0", "is not the name")):
        pipeline = await add(installation, path=path, id_=PIPELINE + len(path))
        with pytest.raises(RunFailed, match=message) as failure:
            await installation.export(pipeline)
        assert failure.value.step == "Finalize"
    assert not storage.files


async def test_a_schema_that_is_not_that_of_profiles_fails(installation: Installation, storage: MemoryStorage) -> None:
    schema = ObjectType((Property("phone", StringType(), read_optional=True),))
    with pytest.raises(RunFailed, match="property phone no longer exists") as failure:
        await installation.export(await add(installation, in_schema=schema, order_by="phone"))
    assert failure.value.step == "InputValidation"
    assert not storage.files


async def test_a_run_whose_end_was_not_stored_is_not_executed_again(
    installation: Installation, storage: MemoryStorage
) -> None:
    await installation.write_profiles({1: {"email": "a@x"}, 2: {"email": "b@x"}})
    pipeline = await add(installation)
    first = await installation.export(pipeline, run=5)
    await installation.write_profiles({3: {"email": "c@x"}})
    storage.files.clear()
    second = await installation.export(pipeline, run=5, fence=2)
    assert (storage.files, second.progress.passed) == ({}, first.progress.passed)
    await installation.export(pipeline, run=6)
    assert len(rows(storage)) == 4


async def test_a_process_whose_run_was_taken_does_not_let_a_file_appear(
    installation: Installation, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    await installation.write_profiles({1: {"email": "a@x"}})
    pipeline = await add(installation)
    late, flush = installation.job(pipeline, run=5), Recorder.flush

    async def flush_late(recorder: Recorder) -> None:
        monkeypatch.setattr(Recorder, "flush", flush)
        await installation.export(pipeline, run=5, fence=2)
        storage.files.clear()
        await flush(recorder)

    monkeypatch.setattr(Recorder, "flush", flush_late)
    with pytest.raises(RunCancelled):
        await execute_export(late)
    assert storage.files == {}


async def test_the_snapshot_ends_before_the_storage_is_called(
    installation: Installation, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    read, create = ProfileExports.read, storage.create

    @asynccontextmanager
    async def note_read(self: ProfileExports, selection: ProfileSelection) -> AsyncIterator[ProfileStream]:
        async with read(self, selection) as stream:
            yield stream
        events.append("read")

    @contextmanager
    def note_create(name: str, content_type: str) -> Iterator[BinaryIO]:
        events.append("create")
        with create(name, content_type) as stream:
            yield stream

    monkeypatch.setattr(ProfileExports, "read", note_read)
    monkeypatch.setattr(storage, "create", note_create)
    await installation.write_profiles({1: {"email": "a@x"}})
    await installation.export(await add(installation))
    assert events == ["read", "create"] and len(rows(storage)) == 2


async def test_a_run_that_is_cancelled_while_it_uploads_leaves_the_file_as_it_was(
    installation: Installation, storage: MemoryStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.files["people.csv"] = b"before"
    await installation.write_profiles({1: {"email": "a@x"}})
    job = installation.job(await add(installation))
    create = storage.create

    def cancel(name: str, content_type: str) -> AbstractContextManager[BinaryIO]:
        job.report.cancel()
        return create(name, content_type)

    monkeypatch.setattr(storage, "create", cancel)
    with pytest.raises(RunCancelled):
        await execute_export(job)
    assert storage.files == {"people.csv": b"before"}


async def test_a_full_disk_is_the_reason_of_a_failure(installation: Installation, storage: MemoryStorage) -> None:
    await installation.write_profiles({1: {"email": "a@x"}})
    job = installation.job(await add(installation))
    job.scratch.rmdir()
    with pytest.raises(RunFailed, match="the temporary file of the export cannot be written: No such file"):
        await execute_export(job)
    assert not storage.files


async def test_a_slow_destination_does_not_end_the_reading_of_profiles(installation: Installation) -> None:
    await installation.write_profiles({1: {"email": "a@x"}})
    async with installation.state.exports.read(ProfileSelection(workspace=WORKSPACE)) as stream:
        await stream.read(1)

        def limit(connection: Connection) -> str:
            if connection.dialect.name == "sqlite":
                return "15min"
            return str(connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar_one())

        assert await stream._session.run(limit) == "15min"
