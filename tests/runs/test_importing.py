"""Imports: the documented algorithm, its counts, and the identities that it stores."""

from pathlib import Path

from headwater.base.clock import from_microseconds
from headwater.catalog import TransformationDefinition
from headwater.runs.importing.importing import NOT_DELETED
from tests.runs.scenario import TEXT, csv_definition, open_scenario, passed, schema




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
