"""Exports to applications: matching, modes, what differs, and applications that fail."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from headwater.base.errors import Unavailable
from headwater.catalog import Pipeline, TransformationDefinition
from headwater.catalog.definition import Matching
from headwater.connectors.contract import (
    BatchLimits,
    Engine,
    ItemResult,
    RateLimit,
    TransportError,
    TransportFailure,
    UsersPage,
    UserWrite,
    rejected,
    retry,
)
from headwater.runs.exporting import applications, execute_export, pausing
from headwater.runs.exporting.recording import Recorder
from headwater.runs.job import Job, RunCancelled, RunFailed
from headwater.schemas import IntType, ObjectType, Property, StringType
from headwater.state import runprogress
from headwater.state.profiles.exporting import ExportRecord
from tests.runs.exporting.application import WRITABLE, Application, Killed
from tests.runs.exporting.installation import Installation, connector, counts, errors, kpid, open_installation
from tests.runs.rates import CountedRates


@pytest.fixture
def application() -> Application:
    return Application()


@pytest.fixture
async def installation(
    tmp_path: Path, database_url: str | None, application: Application, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Installation]:
    monkeypatch.setattr(pausing, "next_delay", lambda previous, random: 0.001)
    engine = Engine(user_source=lambda settings, context: application, user_sink=lambda settings, context: application)
    async with open_installation(tmp_path, database_url, [connector("app", "Application", engine)]) as opened:
        yield opened


async def add(installation: Installation, mode: str = "CreateOrUpdate", **members: Any) -> Pipeline:
    given: dict[str, Any] = {
        "out_schema": ObjectType(WRITABLE.properties[:2]),
        "transformation": TransformationDefinition(mapping={"name": "name"}),
        "matching": Matching("email", "email"),
        "export_mode": mode,
    } | members
    return await installation.add_pipeline("app", **given)


def people(*numbers: int, **more: Any) -> dict[int, dict[str, Any]]:
    return {number: {"email": f"{number}@x", "name": f"n{number}", **more} for number in numbers}


@pytest.mark.parametrize(
    ("mode", "written", "passed"),
    [
        ("CreateOnly", {"a": "old", "u1": "n2", "u2": "n3"}, 2),
        ("UpdateOnly", {"a": "n1"}, 1),
        ("CreateOrUpdate", {"a": "n1", "u1": "n2", "u2": "n3"}, 3),
    ],
)
async def test_modes(
    installation: Installation, application: Application, mode: str, written: dict[str, str], passed: int
) -> None:
    application.add("a", email="1@x", name="old")
    await installation.write_profiles(people(1, 2, 3))
    pipeline = await add(installation, mode)
    report = await installation.export(pipeline)
    assert {id_: user["name"] for id_, user in application.users_by_id.items()} == written
    steps = ("Receive", "InputValidation", "Transformation", "OutputValidation", "Finalize")
    assert counts(report) == dict.fromkeys(steps, (passed, 0))
    assert application.emails()["1@x"] == 1

    calls = len(application.calls)
    again = await installation.export(pipeline)
    assert len(application.calls) == calls
    assert again.progress.unchanged == (0 if mode == "CreateOnly" else passed)


async def test_only_what_differs_is_sent(installation: Installation, application: Application) -> None:
    await installation.write_profiles(people(1, 2, 3))
    pipeline = await add(installation)
    await installation.export(pipeline)
    await installation.write_profiles(people(2) | {3: {"email": "3@x", "name": "n3", "age": 5}})
    await installation.write_profiles({2: {"email": "2@x", "name": "new"}})
    application.calls.clear()
    report = await installation.export(pipeline)
    assert [[(user.id, user.attributes) for user in call] for call in application.calls] == [[("u2", {"name": "new"})]]
    assert report.progress.unchanged == 2 and counts(report)["Finalize"] == (1, 0)
    assert counts(await installation.export(pipeline, is_full=True))["Finalize"] == (3, 0)


async def test_users_that_changed_in_the_application_are_due(
    installation: Installation, application: Application
) -> None:
    await installation.write_profiles(people(1, 2))
    pipeline = await add(installation)
    await installation.export(pipeline)
    del application.users_by_id["u1"]
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (1, 0) and report.progress.unchanged == 1
    assert application.emails() == {"1@x": 1, "2@x": 1}


async def test_of_several_users_all_or_none_are_updated(installation: Installation, application: Application) -> None:
    for id_ in ("a", "b", "c", "d"):
        application.add(id_, email="1@x", name="old")
    await installation.write_profiles(people(1, 2))
    pipeline = await add(installation)
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (1, 1)
    assert errors(report) == {"Finalize: 4 users of App have the value of the profile": [kpid(1)]}
    assert application.users_by_id["a"]["name"] == "old"

    changed = await installation.change_pipeline(pipeline, update_on_duplicates=True)
    report = await installation.export(changed)
    assert counts(report)["Finalize"] == (1, 0) and report.progress.unchanged == 1
    assert {application.users_by_id[id_]["name"] for id_ in "abcd"} == {"n1"}
    assert (await installation.export(changed)).progress.unchanged == 2


async def test_profiles_with_one_value_all_fail(installation: Installation, application: Application) -> None:
    pipeline = await add(installation)
    await installation.write_profiles(people(1, 2))
    await installation.export(pipeline)
    await installation.write_profiles({number: {"email": "1@x", "name": "same"} for number in range(3, 10)})
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (0, 8) and report.progress.unchanged == 1
    for message, ids in errors(report).items():
        named = message.removeprefix("Finalize: profiles ").partition(" have the same value")[0].split(", ")
        assert len(named) == 5 and not set(named) & set(ids) and kpid(1) in [*named, *ids]
    assert application.emails() == {"1@x": 1, "2@x": 1}

    await installation.remove_profiles(*range(3, 10))
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (1, 0) and report.progress.unchanged == 1


async def test_an_application_may_ignore_letter_case(installation: Installation, application: Application) -> None:
    application.case_insensitive = ("email",)
    application.add("a", email="ada@x", name="old")
    await installation.write_profiles({1: {"email": "Ada@X", "name": "n1"}, 2: {"email": "Bob@x", "name": "n2"}})
    assert counts(await installation.export(await add(installation, "CreateOnly", id_=2_000)))["Finalize"] == (1, 0)
    assert [user.attributes["email"] for call in application.calls for user in call] == ["Bob@x"]
    pipeline = await add(installation)
    assert counts(await installation.export(pipeline))["Finalize"] == (2, 0)
    assert application.users_by_id["a"] == {"email": "ada@x", "name": "n1"} and len(application.users_by_id) == 2

    application.calls.clear()
    assert (await installation.export(pipeline)).progress.unchanged == 2 and not application.calls
    await installation.write_profiles({3: {"email": "BOB@x", "name": "n3"}})
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (0, 2) and report.progress.unchanged == 1


async def test_values_that_find_no_users(installation: Installation, application: Application) -> None:
    await installation.write_profiles({1: {"name": "a"}, 2: {"email": "x" * 21}, 3: {"email": "3@x"}, 4: {"email": ""}})
    report = await installation.export(await add(installation))
    assert counts(report)["InputValidation"] == (2, 2) and counts(report)["Finalize"] == (2, 0)
    assert sorted(ids[0] for ids in errors(report).values()) == [kpid(1), kpid(2)]
    report = await installation.export(await add(installation, "UpdateOnly", id_=2_000))
    assert counts(report)["Receive"] == (2, 0)


async def test_required_properties(installation: Installation, application: Application) -> None:
    application.writable = ObjectType(
        (
            Property("email", StringType(), update_required=True),
            Property("name", StringType(), nullable=True, create_required=True),
            Property("age", IntType(32), update_required=True),
        )
    )
    mapping = {"name": "name", "age": "age"}
    pipeline = await add(
        installation, out_schema=application.writable, transformation=TransformationDefinition(mapping=mapping)
    )
    application.add("a", email="1@x")
    application.add("b", email="2@x")
    await installation.write_profiles(
        {1: {"email": "1@x", "age": 1}, 2: {"email": "2@x", "name": "b"}, 3: {"email": "3@x", "age": 3}}
    )
    await installation.write_profiles({4: {"email": "4@x", "name": "d"}})
    report = await installation.export(pipeline)
    assert counts(report)["OutputValidation"] == (3, 1), errors(report)
    assert application.users_by_id["a"] == {"email": "1@x", "age": 1, "name": None}
    assert application.emails()["4@x"] == 1 and "3@x" in application.emails()


async def test_an_update_without_attributes_is_no_call(installation: Installation, application: Application) -> None:
    schema = ObjectType((Property("email", StringType(max_length=20)), Property("age", IntType(32))))
    pipeline = await add(
        installation, out_schema=schema, transformation=TransformationDefinition(mapping={"age": "age"})
    )
    application.add("a", email="1@x")
    await installation.write_profiles(people(1))
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (1, 0) and not application.calls
    assert (await installation.export(pipeline)).progress.unchanged == 1


async def test_matching_converts_values(installation: Installation, application: Application) -> None:
    application.writable = ObjectType((Property("email", IntType(8)), Property("name", StringType(), nullable=True)))
    pipeline = await add(installation, out_schema=application.writable)
    application.add("a", email=22)
    await installation.write_profiles({1: {"email": "22", "name": "found"}, 2: {"email": "300"}, 3: {"email": "7"}})
    report = await installation.export(pipeline)
    assert application.users_by_id == {"a": {"email": 22, "name": "found"}, "u1": {"email": 7, "name": None}}
    assert counts(report)["InputValidation"] == (2, 1)


async def test_a_changed_application_fails_the_run(installation: Installation, application: Application) -> None:
    pipeline = await add(installation)
    application.writable = ObjectType(WRITABLE.properties[:1])
    with pytest.raises(RunFailed, match="property name no longer exists"):
        await installation.export(pipeline)


async def test_rejected_users_stay_due(installation: Installation, application: Application) -> None:
    await installation.write_profiles(people(*range(1, 6)))
    pipeline = await add(installation)
    application.before = lambda users: [
        rejected("InvalidName", "the name is not allowed")
        if user.attributes["name"] == "n2"
        else application.write(user)
        for user in users
    ]
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (4, 1)
    assert errors(report) == {"Finalize: App rejects the user: the name is not allowed": [kpid(2)]}
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (0, 1) and report.progress.unchanged == 4
    application.before = lambda users: None
    assert counts(await installation.export(pipeline))["Finalize"] == (1, 0)


async def test_a_batch_that_is_refused_as_a_whole_is_halved(
    installation: Installation, application: Application
) -> None:
    application.write_limits = BatchLimits(max_events=64)
    await installation.write_profiles(people(*range(1, 33)))
    application.refuse("7@x", "20@x")
    report = await installation.export(await add(installation))
    assert counts(report)["Finalize"] == (30, 2)
    assert [sorted(ids) for ids in errors(report).values()] == [[kpid(7), kpid(20)]]
    assert application.emails().total() == 30


async def test_throttled_users_are_written_again(installation: Installation, application: Application) -> None:
    await installation.write_profiles(people(1, 2, 3))
    left = {"2@x": 3, "3@x": 1_000}

    def before(users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        results = []
        for user in users:
            email = str(user.attributes["email"])
            left[email] = left.get(email, 0) - 1
            results.append(retry("Locked", "the row is locked") if left[email] >= 0 else application.write(user))
        return results

    application.before = before
    report = await installation.export(await add(installation))
    assert counts(report)["Finalize"] == (2, 1)
    assert errors(report) == {"Finalize: App rejects the user: the row is locked": [kpid(3)]}
    keys = {user.attributes["email"]: user.key for call in application.calls for user in call}
    assert all(user.key == keys[user.attributes["email"]] for call in application.calls for user in call)


async def test_an_application_that_is_down_for_a_moment(installation: Installation, application: Application) -> None:
    failures = [Unavailable("it is down"), TransportError(TransportFailure.TIMED_OUT, "it timed out")]

    def before(users: Sequence[UserWrite]) -> None:
        if failures:
            error = failures.pop()
            if error.args == ("it timed out",):  # it has done its work
                for user in users:
                    application.write(user)
            raise error

    application.before = before
    await installation.write_profiles(people(1, 2, 3))
    report = await installation.export(await add(installation))
    assert counts(report)["Finalize"] == (3, 0)
    assert application.emails() == {"1@x": 1, "2@x": 1, "3@x": 1}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (Unavailable("it is down"), "it is down; it was tried 8 times"),
        (Unavailable("it is full", retry_after=3_600), "it is full; it asks to wait 3600 seconds"),
        (TransportError(TransportFailure.AUTHORIZATION_REVOKED, "a user must authorize"), "a user must authorize"),
    ],
)
async def test_an_application_that_stops_in_the_middle(
    installation: Installation, application: Application, error: Unavailable, message: str
) -> None:
    await installation.write_profiles(people(*range(1, 8)))
    pipeline = await add(installation)

    def fail(users: Sequence[UserWrite]) -> None:
        if application.calls:
            raise error

    application.before = fail
    with pytest.raises(RunFailed, match=message) as failure:
        await installation.export(pipeline)
    assert failure.value.step == "Finalize"
    application.before = lambda users: None
    report = await installation.export(pipeline)
    assert counts(report)["Finalize"] == (4, 0) and report.progress.unchanged == 3
    assert set(application.emails().values()) == {1}


async def test_each_call_is_counted_at_the_rates_of_the_application(
    installation: Installation, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = CountedRates()
    monkeypatch.setattr(applications, "open_rates", opened)
    application.write_rates = (RateLimit(count=20, seconds=1.0, unit="Event"),)
    await installation.write_profiles(people(*range(1, 13)))
    pipeline = await add(installation)
    await installation.export(pipeline)
    sizes = [len(call) for call in application.calls]
    assert (opened.limits, opened.max_users) == (application.write_rates, application.write_limits.max_events)
    assert opened.calls == sizes
    await installation.write_profiles(people(1, name="Other"))
    await installation.export(pipeline)
    assert opened.calls[len(sizes) :] == [1]


async def test_a_batch_has_the_bytes_of_the_limit(installation: Installation, application: Application) -> None:
    application.write_limits = BatchLimits(max_events=100, max_bytes=60, max_event_bytes=40)
    await installation.write_profiles(people(*range(1, 9)) | people(9, name="x" * 50))
    report = await installation.export(await add(installation))
    assert counts(report)["Finalize"] == (8, 1)
    assert [len(call) for call in application.calls] == [4, 4]


async def test_an_application_without_end_fails(installation: Installation, application: Application) -> None:
    async def loop(cursor: str, updated_since: object = None) -> Any:
        return UsersPage(users=(), cursor="again")

    application.users = loop  # type: ignore[method-assign]
    with pytest.raises(RunFailed, match="the same page") as failure:
        await installation.export(await add(installation))
    assert failure.value.step == "Receive"


@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("stage", range(1, 5))
@pytest.mark.parametrize("mode", ["CreateOrUpdate", "CreateOnly"])
async def test_a_killed_run_is_resumed(
    installation: Installation, application: Application, stage: int, is_full: bool, mode: str
) -> None:
    pipeline = await add(installation, mode)
    await installation.write_profiles(people(*range(1, 11)))
    if is_full:
        await installation.export(pipeline)
        application.calls.clear()

    def kill() -> None:
        if len(application.calls) == stage:
            raise Killed

    application.after = kill
    if mode == "CreateOnly" and is_full:
        assert not application.calls
        return
    with pytest.raises(Killed):
        await installation.export(pipeline, run=50, is_full=is_full)
    application.after = lambda: None
    report = await installation.export(pipeline, run=50, fence=2, is_full=is_full)
    unconfirmed = len(application.calls[stage - 1])
    passed = 10 - (unconfirmed if mode == "CreateOnly" else 0)  # these users are found, and left out
    assert counts(report)["Finalize"] == (passed, 0) and counts(report)["Receive"] == (passed, 0)
    assert application.emails() == {f"{number}@x": 1 for number in range(1, 11)}
    sent = sum(map(len, application.calls))
    assert sent == 10 + (0 if mode == "CreateOnly" else unconfirmed)
    later = await installation.export(pipeline)
    assert "Finalize" not in counts(later)


async def test_a_process_that_lost_its_run_sends_no_further_batch(
    installation: Installation, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    await installation.write_profiles(people(*range(1, 11)))
    pipeline = await add(installation)
    commit = Recorder.commit

    async def lose(recorder: Recorder, records: Sequence[ExportRecord]) -> None:
        await commit(recorder, records)
        async with installation.state.transaction() as transaction:
            await transaction.run(lambda connection: runprogress.take(connection, 50, pipeline.id, 2))

    monkeypatch.setattr(Recorder, "commit", lose)
    with pytest.raises(RunCancelled):
        await installation.export(pipeline, run=50)
    assert len(application.calls) == 1


async def test_a_process_that_lost_its_run_while_it_waited_does_not_send_again(
    installation: Installation, application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    await installation.write_profiles(people(1))
    pipeline = await add(installation)
    calls = 0

    def fail(users: Sequence[UserWrite]) -> None:
        nonlocal calls
        calls += 1
        raise Unavailable("it is down")

    async def lose(job: Job, seconds: float) -> None:
        async with installation.state.transaction() as transaction:
            await transaction.run(lambda connection: runprogress.take(connection, 50, pipeline.id, 2))

    application.before = fail
    monkeypatch.setattr(pausing, "pause", lose)
    with pytest.raises(RunCancelled):
        await installation.export(pipeline, run=50)
    assert calls == 1


async def test_a_cancelled_run_ends_while_it_waits(installation: Installation, application: Application) -> None:
    await installation.write_profiles(people(1))
    job = installation.job(await add(installation))

    def wait(users: Sequence[UserWrite]) -> None:
        asyncio.get_running_loop().call_later(0.05, job.report.cancel)
        raise Unavailable("it is full", retry_after=200)

    application.before = wait
    with pytest.raises(RunCancelled):
        async with asyncio.timeout(5):
            await execute_export(job)


async def test_the_dummy_is_an_application(installation: Installation) -> None:
    definition: dict[str, Any] = {
        "out_schema": ObjectType(
            (
                Property("email", StringType()),
                Property("firstName", StringType()),
            )
        ),
        "transformation": TransformationDefinition(mapping={"firstName": "name"}),
        "matching": Matching("email", "email"),
        "export_mode": "CreateOrUpdate",
    }
    pipeline = await installation.add_pipeline("dummy", connection=300, **definition)
    await installation.write_profiles({1: {"email": "ada@example.com", "name": "Countess"}, **people(2, 3)})
    assert counts(await installation.export(pipeline))["Finalize"] == (3, 0)
    assert (await installation.export(pipeline)).progress.unchanged == 3
