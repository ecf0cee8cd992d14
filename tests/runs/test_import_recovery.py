"""A run that is killed at any of its transactions, and continues: the result is that of an undisturbed run."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headwater.base.errors import Unavailable
from headwater.catalog import TransformationDefinition
from headwater.runs.importing import execute_import, files, importing, records
from headwater.runs.job import RunCancelled
from headwater.state import IdentityObservation, Transaction, imports, open_state
from tests.runs.scenario import Scenario, csv_definition, open_scenario, passed
from tests.sqlite import migrated_url

FIRST = ("1,a@x,2026-01-01", "2,b@x,2026-01-01", "3,c@x,2026-01-01", "4,d@x,2026-01-01", "5,e@x,2026-01-01")
SECOND = (
    "2,b@x,2026-01-01",
    "3,new@x,2026-01-02",
    "6,f@x,2026-01-03",
    "7,g@x,never",
    "3,last@x,2026-01-02",
    "8,h@x,2026-01-01",
)


class Killed(BaseException):
    """The process was killed."""


class Killer:
    """Ends the process before or after the commit of one transaction."""

    def __init__(self, scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.at = 0
        self.is_after = False
        transaction = scenario.state.transaction

        @asynccontextmanager
        async def killing() -> AsyncIterator[Transaction]:
            self.count += 1
            is_last = self.count == self.at
            async with transaction() as opened:
                yield opened
                if is_last and not self.is_after:
                    raise Killed
            if is_last:
                raise Killed

        monkeypatch.setattr(scenario.state, "transaction", killing)


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_READ_ROWS", 1)
    for name, rows in {"TRANSACTION_ROWS": 1, "MIN_BATCH_ROWS": 2, "MAX_BATCH_ROWS": 2}.items():
        monkeypatch.setattr(records, name, rows)
    monkeypatch.setattr(imports, "SLICE_ROWS", 2)


def content(*rows: str) -> bytes:
    return "\n".join(("id,email,changed", *rows, "")).encode()


async def outcome(scenario: Scenario) -> dict[str, Any]:
    """Return everything that the second run has stored."""
    [(cursor, progress, changed)] = await scenario.rows("SELECT cursor, progress, changed FROM run_progress")
    return {
        "identities": await scenario.stored(),
        "runs": sorted(await scenario.rows("SELECT identity_id, run FROM identities")),
        "unresolved": len(await scenario.rows("SELECT identity FROM unresolved")),
        "changes": await scenario.rows("SELECT pipeline FROM import_changes"),
        "cursors": await scenario.rows("SELECT cursor FROM pipeline_cursors"),
        "progress": (cursor, progress, changed),
        "reported": passed(scenario.reports[-1].progress),
    }


async def run_twice(scenario: Scenario) -> None:
    scenario.storage.files["users.csv"] = content(*FIRST)
    await scenario.run()
    scenario.storage.files["users.csv"] = content(*SECOND)


async def test_a_killed_run_ends_like_an_undisturbed_one(
    tmp_path: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_scenario(tmp_path, csv_definition(), database_url=database_url) as scenario:
        killer = Killer(scenario, monkeypatch)
        await run_twice(scenario)
        killer.count = 0
        await scenario.run()
        transactions, expected = killer.count, await outcome(scenario)
        assert transactions >= 8
        assert passed(scenario.reports[-1].progress)["Receive"] == (5, 1)
        for at in range(1, transactions + 1):
            for killer.is_after in (False, True):
                async with scenario.state.transaction() as transaction:
                    await transaction.run(forget)
                await run_twice(scenario)
                job = scenario.job()
                killer.count, killer.at = 0, at
                with pytest.raises(Killed):
                    await execute_import(job)
                killer.at = 0
                await execute_import(scenario.job(run=job.run.id, fence=2))
                found = await outcome(scenario)
                found["runs"] = [(id_, run - job.run.id) for id_, run in found["runs"]]
                assert found == {**expected, "runs": [(id_, run - 2) for id_, run in expected["runs"]]}, at


def forget(connection: Any) -> None:
    for table in ("identities", "unresolved", "pipeline_cursors", "run_progress", "import_changes"):
        connection.exec_driver_sql(f"DELETE FROM {table}")


async def test_a_file_that_changed_meanwhile_is_read_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_scenario(tmp_path, csv_definition()) as scenario:
        killer = Killer(scenario, monkeypatch)
        scenario.storage.files["users.csv"] = content(*FIRST)
        job = scenario.job()
        killer.at = 3
        with pytest.raises(Killed):
            await execute_import(job)
        scenario.storage.files["users.csv"] = content(*FIRST, "9,z@x,2026-01-09")
        again = scenario.job(run=job.run.id, fence=2)
        await execute_import(again)
        assert passed(again.report.progress)["Finalize"] == (6, 0)
        assert len(await scenario.identities()) == 6


async def test_a_process_that_comes_back_late_changes_nothing(
    tmp_path: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_scenario(tmp_path, csv_definition(), database_url=database_url) as scenario:
        killer = Killer(scenario, monkeypatch)
        await run_twice(scenario)
        job = scenario.job()
        late = asyncio.create_task(execute_import(job))
        while killer.count < 10:
            await asyncio.sleep(0)
        taken = asyncio.create_task(execute_import(scenario.job(run=job.run.id, fence=2)))
        with pytest.raises(RunCancelled):
            await late
        await taken
        assert (await scenario.identities())["3"] == {"email": "last@x"}


async def test_a_cancel_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_scenario(tmp_path, csv_definition()) as scenario:
        scenario.storage.files["users.csv"] = content(*FIRST)
        job = scenario.job()
        job.report.cancel()
        with pytest.raises(RunCancelled):
            await execute_import(job)
        assert not await scenario.identities()


async def test_a_deleted_pipeline_ends_the_run(tmp_path: Path) -> None:
    async with open_scenario(tmp_path, csv_definition()) as scenario:
        scenario.storage.files["users.csv"] = content(*FIRST)
        job = scenario.job()
        async with scenario.catalog.change() as change:
            change.remove_pipeline(scenario.pipeline)
        with pytest.raises(RunCancelled):
            await execute_import(job)


async def test_many_changes_request_a_resolution_of_all(
    tmp_path: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "MAX_TRACKED", 3)
    async with open_scenario(tmp_path, csv_definition(), database_url=database_url) as scenario:
        scenario.storage.files["users.csv"] = content(*FIRST[:2])
        await scenario.run()
        assert not await scenario.state.requested_resolutions()
        assert len(await scenario.rows("SELECT * FROM unresolved")) == 2
        scenario.storage.files["users.csv"] = content(*FIRST, *SECOND)
        await scenario.run()
        assert list(await scenario.state.requested_resolutions()) == [scenario.pipeline.workspace]
        assert not await scenario.rows("SELECT * FROM import_changes")
        assert len(await scenario.rows("SELECT * FROM unresolved")) == 2


async def test_an_import_and_the_worker_write_at_the_same_time(tmp_path: Path, database_url: str | None) -> None:
    """Each has its own connection. Neither fails, and no two identities have one id."""
    async with (
        open_scenario(tmp_path, csv_definition(), database_url=database_url) as scenario,
        open_state(database_url or migrated_url(tmp_path / "state.db"), writes=False, clock=scenario.clock) as state,
    ):
        rows = [f"u{number},a@x,2026-01-01" for number in range(300)]
        scenario.storage.files["users.csv"] = content(*rows)
        job = msgspec.structs.replace(scenario.job(), state=state)
        importing = asyncio.create_task(execute_import(job))
        number = 0
        while not importing.done():
            number += 1
            seen = IdentityObservation(99, 98, (97,), f"w{number}", None, number, ("{}",), reaches=(97,))
            async with scenario.state.transaction() as transaction:
                changes = await transaction.merge_identities([seen])
                await transaction.change_identities(changes)
        await importing
        assert number > 1
        found = await scenario.rows("SELECT id, identity_id, pipeline FROM identities")
        assert len({row[0] for row in found}) == len(found) == 300 + number
        assert len([row for row in found if row[2] == scenario.pipeline.id]) == 300


async def test_a_definition_that_changed_meanwhile_is_applied_to_all_users_by_the_next_run(
    tmp_path: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_scenario(tmp_path, csv_definition(), database_url=database_url) as scenario:
        killer = Killer(scenario, monkeypatch)
        scenario.storage.files["users.csv"] = content(*(f"{day},{day}@x,2026-01-0{day}" for day in range(1, 6)))
        job = scenario.job(incremental=True)
        killer.at, killer.is_after = 3, True
        with pytest.raises(Killed):
            await execute_import(job)
        await scenario.redefine(transformation=TransformationDefinition(mapping={"email": "id"}))
        await execute_import(scenario.job(run=job.run.id, fence=2, incremental=True))
        assert (await scenario.identities())["1"] == {"email": "1@x"}
        await scenario.run(incremental=True)
        assert await scenario.identities() == {id_: {"email": id_} for id_ in "12345"}


async def test_an_outage_while_identities_are_deleted_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "STORE_RETRY_SECONDS", 0.001)
    async with open_scenario(tmp_path, csv_definition()) as scenario:
        await run_twice(scenario)
        read, failures = scenario.state.read, iter(range(2))

        async def failing(work: Any) -> Any:
            if next(failures, None) is not None:
                raise Unavailable("the state store does not respond")
            return await read(work)

        monkeypatch.setattr(scenario.state, "read", failing)
        await scenario.run()
        assert sorted(await scenario.identities()) == ["2", "3", "6", "8"]


async def test_a_result_that_arrives_just_after_a_look_is_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late:
        looks = 0

        def result(self, timeout: float | None = None) -> str:
            self.looks += 1
            if self.looks == 1:
                raise TimeoutError
            return "page"

        def done(self) -> bool:
            return True

    async def nothing() -> str:
        return ""

    async with open_scenario(tmp_path, csv_definition()) as scenario:
        waiting = importing._Import(scenario.job())
        work = nothing()
        monkeypatch.setattr(asyncio, "run_coroutine_threadsafe", lambda work, loop: Late())
        assert waiting.wait_for(work) == "page"
        work.close()


@pytest.mark.parametrize("continues", [False, True])
async def test_the_identities_of_a_cancelled_run_are_resolved(
    tmp_path: Path, database_url: str | None, monkeypatch: pytest.MonkeyPatch, continues: bool
) -> None:
    """If another process continues the run, it resolves them."""
    async with open_scenario(tmp_path, csv_definition(), database_url=database_url) as scenario:
        scenario.storage.files["users.csv"] = content(*FIRST)
        job, store = scenario.job(), importing._Import._store

        async def store_and_cancel(self: Any, batch: Any) -> None:
            await store(self, batch)
            job.report.cancel(continues=continues)

        monkeypatch.setattr(importing._Import, "_store", store_and_cancel)
        with pytest.raises(RunCancelled):
            await execute_import(job)
        stored = len(await scenario.identities())
        assert stored >= 1
        unresolved = await scenario.rows("SELECT identity FROM unresolved")
        changes = await scenario.rows("SELECT identity FROM import_changes")
        assert (len(unresolved), len(changes)) == ((0, stored) if continues else (stored, 0))
