"""Exports to an application that cannot be read: each write creates a user or updates it, by the matching property."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from headwater.catalog import Pipeline, TransformationDefinition
from headwater.catalog.definition import Matching
from headwater.connectors.contract import Engine, ItemResult, Outcome, UserWrite, rejected
from headwater.runs.exporting import pausing
from headwater.runs.job import RunFailed
from headwater.schemas import ObjectType
from tests.runs.exporting.application import WRITABLE, Application
from tests.runs.exporting.installation import Installation, connector, counts, errors, open_installation


class WriteOnly(Application):
    """Implements `UserSink` with the email address as the id of a user."""

    def write(self, user: UserWrite) -> ItemResult:
        id_ = str(user.attributes["email"])
        assert not user.id
        self.users_by_id[id_] = {**self.users_by_id.get(id_, {}), **user.attributes}
        return ItemResult(outcome=Outcome.DELIVERED, id=id_)


@pytest.fixture
def application() -> WriteOnly:
    return WriteOnly()


@pytest.fixture
async def installation(
    tmp_path: Path, database_url: str | None, application: WriteOnly, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Installation]:
    monkeypatch.setattr(pausing, "next_delay", lambda previous, random: 0.001)
    engine = Engine(user_sink=lambda settings, context: application)
    async with open_installation(tmp_path, database_url, [connector("app", "Application", engine)]) as opened:
        yield opened


async def add(installation: Installation, mode: str = "CreateOrUpdate") -> Pipeline:
    return await installation.add_pipeline(
        "app",
        out_schema=ObjectType(WRITABLE.properties[:2]),
        transformation=TransformationDefinition(mapping={"name": "name"}),
        matching=Matching("email", "email"),
        export_mode=mode,
    )


def people(*numbers: int, name: str = "n") -> dict[int, dict[str, Any]]:
    return {number: {"email": f"{number}@x", "name": f"{name}{number}"} for number in numbers}


async def test_what_changed_is_written(installation: Installation, application: WriteOnly) -> None:
    application.add("1@x", email="1@x", age=7)
    await installation.write_profiles(people(1, 2, 3))
    pipeline = await add(installation)
    steps = ("Receive", "InputValidation", "Transformation", "OutputValidation", "Finalize")
    assert counts(await installation.export(pipeline)) == dict.fromkeys(steps, (3, 0))
    assert application.users_by_id["1@x"] == {"email": "1@x", "name": "n1", "age": 7}
    assert set(application.users_by_id) == {"1@x", "2@x", "3@x"}

    calls = len(application.calls)
    assert (await installation.export(pipeline)).progress.unchanged == 3
    assert len(application.calls) == calls

    await installation.write_profiles(people(2, name="m"))
    report = await installation.export(pipeline)
    assert (counts(report)["Finalize"], report.progress.unchanged) == ((1, 0), 2)
    assert application.users_by_id["2@x"]["name"] == "m2"


async def test_another_identifier_writes_another_user(installation: Installation, application: WriteOnly) -> None:
    await installation.write_profiles(people(1))
    pipeline = await add(installation)
    await installation.export(pipeline)
    await installation.write_profiles({1: {"email": "new@x", "name": "n1"}})
    assert counts(await installation.export(pipeline))["Finalize"] == (1, 0)
    assert set(application.users_by_id) == {"1@x", "new@x"}


async def test_a_rejected_user_is_due_again(installation: Installation, application: WriteOnly) -> None:
    await installation.write_profiles(people(1, 2))
    pipeline = await add(installation)

    def refuse(users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        return [rejected("Invalid", "no") if u.attributes["email"] == "1@x" else application.write(u) for u in users]

    application.before = refuse
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (1, 1) and "no" in str(errors(report))
    application.before = lambda users: None
    report = await installation.export(pipeline)
    assert (counts(report)["Finalize"], report.progress.unchanged) == ((1, 0), 1)
    assert set(application.users_by_id) == {"1@x", "2@x"}


async def test_profiles_with_one_identifier_fail(installation: Installation, application: WriteOnly) -> None:
    await installation.write_profiles(people(1, 2) | {3: {"email": "1@x", "name": "other"}})
    report = await installation.export(await add(installation))
    assert counts(report)["Finalize"] == (1, 2)
    assert set(application.users_by_id) == {"2@x"}


@pytest.mark.parametrize("mode", ["CreateOnly", "UpdateOnly"])
async def test_another_mode_fails(installation: Installation, application: WriteOnly, mode: str) -> None:
    await installation.write_profiles(people(1))
    with pytest.raises(RunFailed, match="CreateOrUpdate"):
        await installation.export(await add(installation, mode))
    assert not application.calls
