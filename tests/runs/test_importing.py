"""Imports: the documented algorithm, its counts, and the identities that it stores."""

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater.base.clock import from_microseconds
from headwater.base.steps import ProcessingStep
from headwater.catalog import TransformationDefinition
from headwater.catalog.definition import FunctionDefinition
from headwater.filters import document, parse_text
from headwater.runs.importing.importing import NOT_DELETED
from headwater.runs.importing.mapping import compile_id
from headwater.runs.job import RunFailed
from headwater.schemas import IntType, Json, JsonType, StringType, Type, UuidType
from headwater.state import IdentityObservation, imports
from headwater.state.suppressions import PersonName, Suppressions
from tests.runs.scenario import TEXT, csv_definition, open_scenario, passed, schema


def filter_json(text: str) -> str:
    parsed = parse_text(text)
    assert parsed is not None
    return msgspec.json.encode(document(parsed)).decode()


async def test_the_documented_example(tmp_path: Path, database_url: str | None) -> None:
    definition = csv_definition(
        in_schema=schema(id=TEXT, E_mail=TEXT, last_change=TEXT),
        transformation=TransformationDefinition(mapping={"email": "E_mail"}),
        updated_at_column="last_change",
        updated_at_format="%Y-%m-%d %H:%M:%S",
    )
    async with open_scenario(tmp_path, definition, database_url=database_url) as scenario:
        scenario.storage.files["users.csv"] = (
            b"id,E-mail,last change\n"
            b"7,ada@x.io,2026-02-28 10:00:00\n"
            b"8,,2026-02-28 11:00:00\n"
            b",bob@x.io,2026-02-28 12:00:00\n"
        )
        report = await scenario.run()
        stored = await scenario.stored()
        assert {id_: (str(from_microseconds(at))[:16], found) for id_, (at, found) in stored.items()} == {
            "7": ("2026-02-28 10:00", {"email": "ada@x.io"}),
            "8": ("2026-02-28 11:00", {"email": ""}),
        }
        assert passed(report.progress) == {
            "Receive": (2, 1),
            "InputValidation": (2, 0),
            "Filter": (2, 0),
            "Transformation": (2, 0),
            "OutputValidation": (2, 0),
            "Finalize": (2, 0),
        }
        errors = report.take_errors()
        assert errors["Finalize", NOT_DELETED].count == 0
        [[pipeline, cursor]] = await scenario.rows("SELECT pipeline, cursor FROM pipeline_cursors")
        assert pipeline == scenario.pipeline.id
        assert str(from_microseconds(cursor)) == "2026-02-28 11:00:00+00:00"


def csv_file(*rows: str) -> bytes:
    return "\n".join(("id,email,changed", *rows, "")).encode()


async def test_a_full_run_deletes_what_the_source_has_no_more(tmp_path: Path, database_url: str | None) -> None:
    async with open_scenario(tmp_path, csv_definition(), database_url=database_url) as scenario:
        scenario.storage.files["users.csv"] = csv_file("1,a@x,2026-01-01", "2,b@x,2026-01-01", "3,c@x,2026-01-01")
        await scenario.run()
        scenario.storage.files["users.csv"] = csv_file("2,b@x,2026-01-01", "3,d@x,2026-01-02")
        await scenario.run()
        assert await scenario.identities() == {"2": {"email": "b@x"}, "3": {"email": "d@x"}}


async def test_an_incremental_run_deletes_nothing(tmp_path: Path, database_url: str | None) -> None:
    async with open_scenario(tmp_path, csv_definition(), database_url=database_url) as scenario:
        scenario.storage.files["users.csv"] = csv_file("1,a@x,2026-01-01", "2,b@x,2026-01-02")
        await scenario.run()
        scenario.storage.files["users.csv"] = csv_file("1,old@x,2026-01-01", "3,c@x,2026-01-02", "4,d@x,2026-01-03")
        report = await scenario.run(incremental=True)
        assert report.progress.rows == 3
        assert passed(report.progress)["Receive"] == (2, 0)  # the older one is left out; equal times are not older
        assert sorted(await scenario.identities()) == ["1", "2", "3", "4"]
        assert (await scenario.identities())["1"] == {"email": "a@x"}
        [[cursor]] = await scenario.rows("SELECT cursor FROM pipeline_cursors")
        assert from_microseconds(cursor) == datetime(2026, 1, 3, tzinfo=UTC)


async def test_a_changed_definition_resets_the_cursor(tmp_path: Path) -> None:
    async with open_scenario(tmp_path, csv_definition()) as scenario:
        scenario.storage.files["users.csv"] = csv_file("1,a@x,2026-01-01", "2,b@x,2026-01-02")
        await scenario.run()
        await scenario.redefine(transformation=TransformationDefinition(mapping={"email": "upper(email)"}))
        report = await scenario.run(incremental=True)
        assert passed(report.progress)["Receive"] == (2, 0)
        assert await scenario.identities() == {"1": {"email": "A@X"}, "2": {"email": "B@X"}}


async def test_the_incremental_member_keeps_the_cursor(tmp_path: Path) -> None:
    async with open_scenario(tmp_path, csv_definition()) as scenario:
        scenario.storage.files["users.csv"] = csv_file("1,a@x,2026-01-01", "2,b@x,2026-01-02")
        await scenario.run()
        await scenario.redefine(incremental=True)
        assert passed((await scenario.run(incremental=True)).progress)["Receive"] == (1, 0)


async def test_another_compression_of_the_file_keeps_the_cursor(tmp_path: Path) -> None:
    async with open_scenario(tmp_path, csv_definition()) as scenario:
        rows = csv_file("1,a@x,2026-01-01", "2,b@x,2026-01-02")
        scenario.storage.files["users.csv"] = rows
        await scenario.run()
        scenario.storage.files["users.csv"] = gzip.compress(rows)
        await scenario.redefine(compression="Gzip")
        assert passed((await scenario.run(incremental=True)).progress)["Receive"] == (1, 0)


async def test_a_time_in_the_future_counts_as_now(tmp_path: Path) -> None:
    async with open_scenario(tmp_path, csv_definition()) as scenario:
        scenario.storage.files["users.csv"] = csv_file("1,a@x,9999-12-31T23:59:59Z", "2,b@x,0001-01-01")
        report = await scenario.run()
        assert sorted(await scenario.identities()) == ["1", "2"]
        assert not report.take_errors()
        [[cursor]] = await scenario.rows("SELECT cursor FROM pipeline_cursors")
        assert from_microseconds(cursor) == scenario.clock.now()


@pytest.mark.parametrize(
    ("row", "step", "message"),
    [
        ("1,a@x,yesterday", "Receive", "property 'changed' is not a time of the format ISO8601"),
        ("1,a@x,", "Receive", "property 'changed' is not a time of the format ISO8601"),
        ("1,toolong,2026-01-01", "OutputValidation", "«email» for «email»: the result must have at most 3 characters"),
    ],
)
async def test_the_identity_of_a_record_that_fails_is_kept(
    tmp_path: Path, database_url: str | None, row: str, step: ProcessingStep, message: str
) -> None:
    definition = csv_definition(out_schema=schema(email=StringType(max_length=3)))
    async with open_scenario(tmp_path, definition, database_url=database_url) as scenario:
        scenario.storage.files["users.csv"] = csv_file("1,a@x,2026-01-01", "2,b@x,2026-01-01")
        await scenario.run()
        scenario.storage.files["users.csv"] = csv_file(row)
        report = await scenario.run()
        assert await scenario.identities() == {"1": {"email": "a@x"}}
        [((found_step, found), summary)] = report.take_errors().items()
        assert (found_step, found, summary.count) == (step, message, 1)
        assert (summary.samples[0].number, summary.samples[0].id) == (2, "1")


async def test_the_identity_of_a_record_that_is_filtered_out_is_deleted(tmp_path: Path) -> None:
    async with open_scenario(tmp_path, csv_definition()) as scenario:
        scenario.storage.files["users.csv"] = csv_file("1,a@x,2026-01-01", "2,b@x,2026-01-02")
        await scenario.run()
        await scenario.redefine(filter=filter_json('email is "b@x"'))
        report = await scenario.run()
        assert passed(report.progress)["Filter"] == (1, 1)
        assert sorted(await scenario.identities()) == ["2"]


async def test_of_a_repeated_user_of_a_file_the_last_row_is_stored(tmp_path: Path) -> None:
    async with open_scenario(tmp_path, csv_definition()) as scenario:
        scenario.storage.files["users.csv"] = csv_file("1,a@x,2026-01-03", "1,b@x,2026-01-02", "1,c@x,2026-01-01")
        await scenario.run()
        assert await scenario.identities() == {"1": {"email": "c@x"}}


@pytest.mark.parametrize(
    ("content", "step", "message"),
    [
        (b"id,mail,changed\n1,a@x,2026-01-01\n", "InputValidation", "property email no longer exists"),
        (b"id,email,changed\n1,a@x\n", "Receive", "line 2 has 2 fields"),
        (b"", "Receive", "the file is empty"),
        (None, "Receive", "does not exist"),
    ],
)
async def test_a_run_fails_with_its_reason(
    tmp_path: Path, content: bytes | None, step: ProcessingStep, message: str
) -> None:
    async with open_scenario(tmp_path, csv_definition()) as scenario:
        scenario.storage.files["users.csv"] = csv_file("1,a@x,2026-01-01")
        await scenario.run()
        del scenario.storage.files["users.csv"]
        if content is not None:
            scenario.storage.files["users.csv"] = content
        with pytest.raises(RunFailed) as failure:
            await scenario.run()
        assert failure.value.step == step
        assert message in failure.value.message
        assert await scenario.identities() == {"1": {"email": "a@x"}}  # nothing was deleted


async def test_functions_transform_in_batches(tmp_path: Path) -> None:
    source = (
        "def transform(user):\n"
        "    if user['email'] == 'bad': raise ValueError('no')\n"
        "    return {'email': user['email'].upper()}\n"
    )
    function = FunctionDefinition(language="Python", source=source, in_paths=("email",), out_paths=("email",))
    definition = csv_definition(transformation=TransformationDefinition(function=function))
    async with open_scenario(tmp_path, definition) as scenario:
        rows = [f"{number},u{number}@x,2026-01-01" for number in range(2_500)]
        scenario.storage.files["users.csv"] = csv_file(*rows, "x,bad,2026-01-01")
        report = await scenario.run()
        assert passed(report.progress)["Transformation"] == (2_500, 1)
        assert (await scenario.identities())["2499"] == {"email": "U2499@X"}


async def test_a_function_that_fails_as_a_whole_ends_the_run(tmp_path: Path) -> None:
    function = FunctionDefinition(
        language="Python", source="def transform(:", in_paths=("email",), out_paths=("email",)
    )
    definition = csv_definition(transformation=TransformationDefinition(function=function))
    async with open_scenario(tmp_path, definition) as scenario:
        scenario.storage.files["users.csv"] = csv_file("1,a@x,2026-01-01")
        with pytest.raises(RunFailed) as failure:
            await scenario.run()
        assert failure.value.step == "Transformation"
        assert not await scenario.identities()


async def test_another_workspace_is_untouched(tmp_path: Path, database_url: str | None) -> None:
    async with open_scenario(tmp_path, csv_definition(), database_url=database_url) as scenario:
        other = IdentityObservation(99, 98, (97,), "1", None, 5, ("{}",), reaches=(97,))
        async with scenario.state.transaction() as transaction:
            await transaction.change_identities(await transaction.merge_identities([other]))
        before = await scenario.rows("SELECT id, workspace, attributes, run FROM identities WHERE workspace = 99")
        scenario.storage.files["users.csv"] = csv_file("1,a@x,2026-01-01")
        await scenario.run()
        scenario.storage.files["users.csv"] = csv_file("2,a@x,2026-01-01")
        await scenario.run()
        after = await scenario.rows("SELECT id, workspace, attributes, run FROM identities WHERE workspace = 99")
        assert before == after


async def test_erased_persons_do_not_come_back(tmp_path: Path, database_url: str | None) -> None:
    async with open_scenario(tmp_path, csv_definition(), database_url=database_url) as scenario:
        workspace, writer = scenario.pipeline.workspace, Suppressions()  # the worker's
        names = [PersonName(scenario.connection.id, "1", False)]
        scenario.storage.files["users.csv"] = csv_file("1,a@x,2026-01-01", "2,b@x,2026-01-01")
        await scenario.run()
        async with scenario.state.transaction() as transaction:
            await transaction.run(lambda sql: writer.add(sql, workspace, names, erasure=5, now=0))
            await transaction.run(lambda sql: sql.exec_driver_sql("DELETE FROM identities WHERE identity_id = '1'"))
        report = await scenario.run()
        assert sorted(await scenario.identities()) == ["2"]
        assert passed(report.progress)["Finalize"] == (1, 1)
        async with scenario.state.transaction() as transaction:  # without suppression, the erasure ends at a position
            await transaction.run(lambda sql: writer.end(sql, 5, 1_000))
        await scenario.run()
        assert sorted(await scenario.identities()) == ["1", "2"]


async def test_ids_of_identities_are_not_used_again(tmp_path: Path, database_url: str | None) -> None:
    async with open_scenario(tmp_path, csv_definition(), database_url=database_url) as scenario:
        seen: set[int] = set()
        for number in range(3):
            scenario.storage.files["users.csv"] = csv_file(f"{number},a@x,2026-01-01")
            await scenario.run()
            [[id_]] = await scenario.rows("SELECT id FROM identities")
            assert id_ not in seen
            seen.add(id_)


@pytest.mark.parametrize(
    ("type", "value", "id"),
    [
        (StringType(), "a", "a"),
        (StringType(), "é" * 1_000, "é" * 1_000),
        (StringType(), "é" * 1_001, None),
        (StringType(), "", None),
        (IntType(64), -5, "-5"),
        (UuidType(), "00112233-4455-6677-8899-aabbccddeeff", "00112233-4455-6677-8899-aabbccddeeff"),
        (JsonType(), Json('"a\\u00e9"'), "aé"),
        (JsonType(), Json("1.50"), "1.50"),
        (JsonType(), Json('"a\\u0000"'), None),
        (JsonType(), Json('"\\ud800"'), None),
        (JsonType(), Json("true"), None),
        (JsonType(), Json("[1]"), None),
        (JsonType(), None, None),
    ],
)
def test_user_ids(type: Type, value: Any, id: str | None) -> None:
    assert compile_id(type)(value) == id


async def test_a_search_for_identities_to_delete_is_divided(
    tmp_path: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imports, "SEARCHED_ROWS", 4)
    monkeypatch.setattr(imports, "SLICE_ROWS", 2)
    async with open_scenario(tmp_path, csv_definition(updated_at_column=""), database_url=database_url) as scenario:
        ids = [f"u{number:02d}" for number in range(30)]
        for kept in (ids, ids[:14], ids[:14:3]):
            lines = ["id,email,changed", *(f"{id_},a," for id_ in kept)]
            scenario.storage.files["users.csv"] = "\n".join(lines).encode()
            await scenario.run()
            assert sorted(await scenario.identities()) == kept
