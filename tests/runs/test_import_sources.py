"""Imports from applications and databases."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from headwater.base.errors import BadRequest, Unavailable
from headwater.base.steps import ProcessingStep
from headwater.catalog import Definition, TransformationDefinition
from headwater.connectors.catalogue.file_formats import CsvSourceSettings
from headwater.connectors.contract import Column, QueryRejected, RateLimit, Row, SourceUser, UsersPage
from headwater.connectors.dummy.customers import Customers
from headwater.connectors.dummy.schemas import READABLE_SCHEMA
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.dummy.users import DummyUsers
from headwater.connectors.formats.csv import CsvFormat
from headwater.connectors.formats.parquet import ParquetFormat
from headwater.runs.files import open_file
from headwater.runs.importing import applications, execute_import, sources
from headwater.runs.importing.files import FileSource
from headwater.runs.importing.records import Place
from headwater.runs.importing.sources import _report_copied
from headwater.runs.job import Report, RunCancelled, RunFailed
from headwater.schemas import (
    DateTime,
    DateTimeType,
    IntType,
    ObjectType,
    Property,
    Schema,
    StringType,
    Value,
    serialise,
)
from tests.connectors.conformance.context import make_context
from tests.connectors.reference.files import MemoryStorage
from tests.runs.rates import CountedRates
from tests.runs.scenario import TEXT, open_scenario, passed, schema
from tests.runs.test_files import ForwardStorage

SCHEMA = ObjectType((Property("name", TEXT),))
TEN = datetime(2026, 1, 1, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def definition(**members: Any) -> Definition:
    defaults: dict[str, Any] = {
        "in_schema": serialise(SCHEMA).decode(),
        "out_schema": schema(name=TEXT),
        "transformation": TransformationDefinition(mapping={"name": "name"}),
    }
    return Definition(**{**defaults, **members})


def user(id: str, name: str = "x", at: datetime | None = TEN, **members: Any) -> SourceUser:
    return SourceUser(id=id, attributes={"name": name}, updated_at=at, **members)


class Application:
    """Returns given pages."""

    def __init__(self, *pages: Sequence[SourceUser], cursors: Sequence[str] | None = None) -> None:
        self.pages = [tuple(page) for page in pages]
        self.cursors = cursors
        self.asked: list[tuple[str, datetime | None]] = []
        self.failures: list[Exception] = []
        self.schema: Schema = SCHEMA

    async def readable_schema(self) -> Schema:
        return self.schema

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        self.asked.append((cursor, updated_since))
        if self.failures:
            raise self.failures.pop(0)
        if self.cursors is not None:
            return UsersPage(users=self.pages[0], cursor=self.cursors[len(self.asked) - 1])
        number = int(cursor or "0")
        return UsersPage(users=self.pages[number], cursor=str(number + 1) if number + 1 < len(self.pages) else "")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applications, "INITIAL_PAUSE_SECONDS", 0.001)


async def test_the_customers_of_the_dummy(tmp_path: Path, database_url: str | None) -> None:
    dummy = DummyUsers(DummySettings(number_of_customers=500), make_context(), Customers())
    wanted = definition(
        in_schema=serialise(READABLE_SCHEMA).decode(),
        out_schema=schema(email=TEXT),
        transformation=TransformationDefinition(mapping={"email": "email"}),
    )
    async with open_scenario(tmp_path, wanted, database_url=database_url, users=dummy) as scenario:
        report = await scenario.run()
        assert passed(report.progress)["Finalize"] == (500, 0)
        assert (await scenario.identities())["dummy2"] == {"email": "alan@example.com"}
        report = await scenario.run(incremental=True)
        assert passed(report.progress)["Finalize"] == (1, 0)  # the last generated one


async def test_the_documented_increment(tmp_path: Path) -> None:
    app = Application([user("A"), user("B", at=TEN + 5 * MINUTE), user("C", at=TEN + 5 * MINUTE)])
    async with open_scenario(tmp_path, definition(), users=app) as scenario:
        await scenario.run()
        app.pages = [(user("B", at=TEN + 5 * MINUTE), user("C", "y", at=TEN + 7 * MINUTE), user("A", "old"))]
        report = await scenario.run(incremental=True)
        assert app.asked[-1] == ("", TEN + 5 * MINUTE)
        assert passed(report.progress)["Finalize"] == (2, 0)
        assert await scenario.identities() == {"A": {"name": "x"}, "B": {"name": "x"}, "C": {"name": "y"}}
        await scenario.run(incremental=True)
        assert app.asked[-1] == ("", TEN + 7 * MINUTE)


async def test_a_user_of_an_earlier_page_is_left_out(tmp_path: Path, database_url: str | None) -> None:
    app = Application([user("A", "first")], [], [user("A", "second"), user("B", "one"), user("B", "two")])
    async with open_scenario(tmp_path, definition(), database_url=database_url, users=app) as scenario:
        await scenario.run()
        assert await scenario.identities() == {"A": {"name": "first"}, "B": {"name": "one"}}


async def test_an_id_that_cannot_be_stored_deletes_nothing(tmp_path: Path) -> None:
    app = Application([user("A")])
    async with open_scenario(tmp_path, definition(), users=app) as scenario:
        await scenario.run()
        for id_ in ("", "\ud800", "x" * 2_001):
            app.pages = [(user(id_), user("B"))]
            report = await scenario.run()
            assert sorted(await scenario.identities()) == ["A", "B"]
            assert ("Receive", "the application has returned a user whose id is not usable") in report.take_errors()
        app.pages = [(SourceUser(id="\ud800", attributes={}, error="it is locked"), user("B"))]
        report = await scenario.run()
        assert sorted(await scenario.identities()) == ["A", "B"]
        assert report.take_errors()["Receive", "it is locked"].samples[0].id == ""


async def test_users_that_cannot_be_read_are_kept(tmp_path: Path) -> None:
    app = Application([user("A"), user("B"), user("C"), user("D")])
    async with open_scenario(tmp_path, definition(), users=app) as scenario:
        await scenario.run()
        failed = SourceUser(id="B", attributes={}, error="the user is locked")
        app.pages = [(user("A", "new"), failed, SourceUser(id="C", attributes={}), user("D", at=datetime(1899, 1, 1)))]
        app.pages[0] = (*app.pages[0][:3], user("D", at=datetime(1899, 1, 1, tzinfo=UTC)))
        report = await scenario.run()
        assert sorted(await scenario.identities()) == ["A", "B", "C", "D"]
        assert {(step, message) for step, message in report.take_errors()} == {
            ("Receive", "the user is locked"),
            ("Receive", "the update time of the user is before the year 1900"),
            ("InputValidation", "property 'name' is missing"),
        }


def _change_schema(app: Application) -> None:
    app.schema = ObjectType((Property("name", IntType(32)),))


def _fail_often(app: Application) -> None:
    app.failures = [Unavailable("the application does not respond")] * 6


def _ask_for_an_hour(app: Application) -> None:
    app.failures = [Unavailable("the application is busy", retry_after=3_600)]


def _refuse(app: Application) -> None:
    app.failures = [BadRequest("the token was revoked")]


def _repeat_cursor(app: Application) -> None:
    app.cursors = ["a", "b", "a"]
    app.asked.clear()


def _return_nothing(app: Application) -> None:
    app.pages, app.cursors = [()], [f"c{number}" for number in range(2_000)]
    app.asked.clear()


@pytest.mark.parametrize(
    ("change", "step", "message"),
    [
        (_change_schema, "InputValidation", "the type of property name was string and is now int(32)"),
        (_fail_often, "Receive", "the application does not respond"),
        (_ask_for_an_hour, "Receive", "the application is busy"),
        (_refuse, "Receive", "the token was revoked"),
        (_repeat_cursor, "Receive", "repeats a cursor"),
        (_return_nothing, "Receive", "pages without users"),
    ],
)
async def test_an_application_ends_the_run(
    tmp_path: Path, change: Callable[[Application], None], step: ProcessingStep, message: str
) -> None:
    app = Application([user("A")])
    async with open_scenario(tmp_path, definition(), users=app) as scenario:
        await scenario.run()
        change(app)
        with pytest.raises(RunFailed) as failure:
            await scenario.run()
        assert failure.value.step == step
        assert message in failure.value.message
        assert sorted(await scenario.identities()) == ["A"]


async def test_an_outage_of_an_application_is_waited_for(tmp_path: Path) -> None:
    app = Application([user("A")])
    app.failures = [Unavailable("the application does not respond")] * 3
    async with open_scenario(tmp_path, definition(), users=app) as scenario:
        await scenario.run()
        assert len(app.asked) == 4
        assert sorted(await scenario.identities()) == ["A"]


async def test_an_application_is_waited_for_as_long_as_it_asks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(applications.ApplicationSource, "_pause", lambda _, seconds: pauses.append(seconds))
    app = Application([user("A")])
    app.failures = [Unavailable("the application is busy", retry_after=40), Unavailable("no response")]
    async with open_scenario(tmp_path, definition(), users=app) as scenario:
        await scenario.run()
        assert (pauses[0], pauses[1] < 1) == (40, True)
        assert sorted(await scenario.identities()) == ["A"]


class PacedApplication(Application):
    """Has a rate of one page in ten seconds, after three at the same time."""

    read_rates = (RateLimit(count=6, seconds=60, burst=3),)


async def test_each_page_is_counted_at_the_rates_of_the_application(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = CountedRates()
    monkeypatch.setattr(sources, "open_rates", opened)
    app = PacedApplication(*([user(str(number))] for number in range(5)))
    app.failures = [Unavailable("no response")]
    async with open_scenario(tmp_path, definition(), users=app) as scenario:
        await scenario.run()
        assert len(app.asked) == 6
    assert (opened.limits, opened.calls) == (PacedApplication.read_rates, [1] * 6)


# --- Files --------------------------------------------------------------------------------------------------------


def test_a_cancel_ends_the_copy_of_a_file(tmp_path: Path) -> None:
    storage, report = ForwardStorage(), Report()
    storage.files["users"] = b"x" * 3_000_000
    report.cancel()
    opened = open_file(storage, ParquetFormat(), "users", scratch=tmp_path, copied=partial(_report_copied, report))
    with pytest.raises(RunCancelled), opened:
        pass
    assert not list(tmp_path.iterdir())


def test_the_copy_of_a_file_is_progress() -> None:
    report = Report()
    _report_copied(report, 7)
    assert report.progress.bytes == 7


def test_a_cancel_ends_the_search_for_the_place_of_a_run(tmp_path: Path) -> None:
    storage, report = MemoryStorage(), Report()
    csv = CsvFormat(CsvSourceSettings(separator=",", has_column_names=True))
    storage.files["users"] = b"name\n" + b"x\n" * 5_000
    source = FileSource(lambda: open_file(storage, csv, "users", scratch=tmp_path), report)
    source.open(SCHEMA, None)
    report.cancel()
    with pytest.raises(RunCancelled):
        next(source.batches(None, Place(source._version, 4_900)))
    assert report.progress.rows == 0
    source.close()


# --- Databases ----------------------------------------------------------------------------------------------------

COLUMNS = (
    Column(name="id", type=IntType(64), nullable=True),
    Column(name="name", type=StringType(), nullable=True),
    Column(name="changed", type=DateTimeType(), nullable=True),
    Column(name="other", type=None, issue="type box is not supported"),
)
STORED = serialise(
    ObjectType(tuple(Property(each.name, each.type, nullable=True) for each in COLUMNS if each.type is not None))
).decode()


class Database:
    """Returns given rows for any query."""

    def __init__(self, *rows: Row) -> None:
        self.rows = list(rows)
        self.columns: tuple[Column, ...] = COLUMNS
        self.asked: list[tuple[str, Mapping[str, Value]]] = []
        self.failure: Exception | None = None
        self.closed = 0

    @contextmanager
    def query(self, text: str, parameters: Mapping[str, Value], limit: int | None) -> Iterator["Database"]:
        self.asked.append((text, parameters))
        if isinstance(self.failure, QueryRejected):
            raise self.failure
        yield self

    def batches(self) -> Iterator[list[Row]]:
        for row in self.rows:
            yield [row]
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        self.closed += 1


def row(id: int | None, name: str | None, minute: int | None) -> Row:
    return id, name, None if minute is None else DateTime.of(TEN + minute * MINUTE), None


def database_definition(**members: Any) -> Definition:
    return definition(
        **{
            "in_schema": STORED,
            "query": "SELECT * FROM people WHERE changed >= ${updated_at} LIMIT ${limit}",
            "user_id_column": "id",
            "updated_at_column": "changed",
            **members,
        }
    )


async def test_a_query(tmp_path: Path, database_url: str | None) -> None:
    database = Database(row(1, "a", 0), row(2, None, 1), row(None, "c", 2), row(4, "d", None))
    wanted = database_definition()
    async with open_scenario(tmp_path, wanted, database_url=database_url, database=database) as scenario:
        report = await scenario.run()
        assert await scenario.identities() == {"1": {"name": "a"}, "2": {}}
        assert passed(report.progress) == {
            "Receive": (2, 2),
            "InputValidation": (2, 0),
            "Transformation": (2, 0),
            "OutputValidation": (2, 0),
            "Finalize": (2, 0),
        }
        assert database.asked[-1][1] == {"updated_at": None, "limit": 2**63 - 1}
        await scenario.run(incremental=True)
        assert database.asked[-1][1]["updated_at"] == DateTime.of(TEN + MINUTE)
        assert database.closed == 2


async def test_without_an_updated_at_column_the_time_is_that_of_the_first_run_with_the_values(tmp_path: Path) -> None:
    stored = serialise(ObjectType((Property("id", IntType(64), nullable=True), Property("name", TEXT, nullable=True))))
    database = Database(row(1, "a", 0), row(2, "b", 1))
    wanted = database_definition(in_schema=stored.decode(), updated_at_column="")
    async with open_scenario(tmp_path, wanted, database=database) as scenario:
        await scenario.run()
        first = (await scenario.stored())["1"][0]
        scenario.clock.advance(60)
        database.rows[1] = row(2, "c", 1)
        await scenario.run()
        after = await scenario.stored()
        assert (after["1"][0] - first, after["2"][0] - first) == (0, 60_000_000)


@pytest.mark.parametrize(
    ("columns", "failure", "step", "message"),
    [
        (COLUMNS[1:], None, "InputValidation", "property id no longer exists"),
        (
            (COLUMNS[0], Column(name="name", type=None, issue="type box is not supported"), *COLUMNS[2:]),
            None,
            "InputValidation",
            "column name cannot be read: type box is not supported",
        ),
        (COLUMNS, QueryRejected("the query writes"), "Receive", "the query writes"),
        (COLUMNS, Unavailable("the connection was closed"), "Receive", "the connection was closed"),
    ],
)
async def test_a_database_ends_the_run(
    tmp_path: Path, columns: tuple[Column, ...], failure: Exception | None, step: ProcessingStep, message: str
) -> None:
    database = Database(row(1, "a", 0))
    async with open_scenario(tmp_path, database_definition(), database=database) as scenario:
        await scenario.run()
        database.columns, database.failure, database.rows = columns, failure, []
        with pytest.raises(RunFailed) as raised:
            await scenario.run()
        assert (raised.value.step, message in raised.value.message) == (step, True)
        assert sorted(await scenario.identities()) == ["1"]
        assert database.closed == 2


class Stuck(Database):
    """Never returns its rows."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.released = threading.Event()

    def batches(self) -> Iterator[list[Row]]:
        self.begun.set()
        self.released.wait(60)
        yield [row(1, "a", 0)]


async def test_a_cancel_does_not_wait_for_a_database_that_is_stuck(tmp_path: Path) -> None:
    database = Stuck()
    async with open_scenario(tmp_path, database_definition(), database=database) as scenario:
        job = scenario.job()
        task = asyncio.create_task(execute_import(job))
        await asyncio.to_thread(database.begun.wait, 30)
        job.report.cancel()
        try:
            async with asyncio.timeout(30):
                with pytest.raises(RunCancelled):
                    await task
            assert not await scenario.identities()
        finally:
            database.released.set()
