"""The dummy's users: the conformance suites, known customers, and operations with the delay of the settings."""

import asyncio
import base64
import multiprocessing
from pathlib import Path

import pytest

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.contract import Outcome, UserSink, UserSource, UserWrite
from headwater.connectors.dummy.customers import Customers
from headwater.connectors.dummy.schemas import READABLE_SCHEMA, WRITABLE_SCHEMA
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.dummy.users import DummyUsers
from headwater.connectors.registry import CONNECTORS
from headwater.schemas import Record
from tests.connectors.conformance.context import NOW, make_context
from tests.connectors.conformance.user_sink import KEYS, UserSinkConformance
from tests.connectors.conformance.user_source import UserSourceConformance

FOREIGN = (b"dummy:", b"dummy:0", b"dummy:-1", b"dummy:05", b"dummy:1x")
GRACE: Record = {
    "email": "grace@example.com",
    "firstName": "Grace",
    "lastName": None,
    "fullName": "Grace",
    "favouriteDrink": "tea",
    "favourite_movie": "Contact",
    "address": {"street": "1 Wall Street", "postal_code": "10005", "city": None},
    "additionalProperties": {"a": "b"},
}
ALAN: Record = {**GRACE, "email": "alan@example.com", "firstName": "Alan", "fullName": "Alan", "address": None}


def _dummy(page_size: int = 100, settings: DummySettings | None = None) -> DummyUsers:
    return DummyUsers(settings or DummySettings(), make_context(), Customers(), page_size=page_size)


class TestSource(UserSourceConformance):
    def make(self) -> UserSource:
        return _dummy()


class TestSourceInSmallPages(UserSourceConformance):
    def make(self) -> UserSource:
        return _dummy(page_size=3)


class TestSourceInAFile(UserSourceConformance):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "customers.db"

    def make(self) -> UserSource:
        return DummyUsers(DummySettings(), make_context(), Customers(self.path), page_size=3)


class TestManyCustomers(UserSourceConformance):
    def make(self) -> UserSource:
        return _dummy(page_size=4, settings=DummySettings(number_of_customers=25))


async def test_generated_customers_come_before_the_others() -> None:
    dummy = _dummy(page_size=7, settings=DummySettings(number_of_customers=30))
    ids: list[str] = []
    cursor = ""
    while page := await dummy.users(cursor):
        ids += [user.id for user in page.users]
        if not (cursor := page.cursor):
            break
    assert ids == [f"generated{number}" for number in range(1, 21)] + [f"dummy{number}" for number in range(1, 11)]


class TestSink(UserSinkConformance):
    def make(self) -> UserSink:
        return _dummy()

    def examples(self) -> list[Record]:
        return [GRACE, ALAN]

    async def read(self, sink: UserSink, id_: str) -> Record | None:
        assert isinstance(sink, DummyUsers)
        users = {user.id: user.attributes for user in (await sink.users("")).users}
        return users.get(id_)


class TestSinkInAFile(TestSink):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "customers.db"

    def make(self) -> UserSink:
        return DummyUsers(DummySettings(), make_context(), Customers(self.path))


async def test_the_customers_are_ten() -> None:
    page = await _dummy().users("")
    assert [user.id for user in page.users] == [f"dummy{number}" for number in range(1, 11)]
    assert all(user.attributes["dummyId"] == user.id for user in page.users)
    assert page.cursor == ""


@pytest.mark.parametrize("size", [1, 3, 5, 9, 10, 11])
async def test_pages_of_any_size_have_the_same_users(size: int) -> None:
    dummy, cursor, seen = _dummy(size), "", list[str]()
    for _ in range(12):
        page = await dummy.users(cursor)
        assert 1 <= len(page.users) <= size
        seen += [user.id for user in page.users]
        cursor = page.cursor
        if not cursor:
            break
    assert seen == [f"dummy{number}" for number in range(1, 11)]


async def test_optional_and_nullable_properties_all_occur() -> None:
    users = [user.attributes for user in (await _dummy().users("")).users]
    missing = {name for name in READABLE_SCHEMA.by_name if any(name not in user for user in users)}
    null = {name for name in READABLE_SCHEMA.by_name if any(name in user and user[name] is None for user in users)}
    assert missing == {property.name for property in READABLE_SCHEMA if property.read_optional}
    assert null == {property.name for property in READABLE_SCHEMA if property.nullable}


@pytest.mark.parametrize(
    "cursor", ["x", "%", "dummy:5", "A" * 1_000, *(base64.b64encode(text).decode() for text in FOREIGN)]
)
async def test_a_foreign_cursor_is_rejected(cursor: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await _dummy().users(cursor)
    assert caught.value.field == "cursor"


async def test_a_cursor_behind_the_end_is_the_end() -> None:
    page = await _dummy().users(base64.urlsafe_b64encode(b"dummy:999").decode())
    assert (page.users, page.cursor) == ((), "")


async def test_an_operation_takes_as_long_as_the_settings_say() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    dummy = _dummy(settings=DummySettings(operation_delay="50ms"))
    await dummy.users("")
    await dummy.write_users([])
    assert loop.time() - began >= 0.1


def test_the_schemas_differ_by_what_can_only_be_written_or_read() -> None:
    assert set(WRITABLE_SCHEMA.by_name) ^ set(READABLE_SCHEMA.by_name) == {"additionalProperties", "dummyId"}


async def test_customers_fail_as_often_as_the_settings_say_and_again_when_repeated() -> None:
    dummy = _dummy(settings=DummySettings(export_fail_percentage=30))
    writes = [UserWrite(id="dummy1", attributes={"email": "x"}, key=key) for key in KEYS]
    outcomes = [result.outcome for result in await dummy.write_users(writes)]
    assert [result.outcome for result in await dummy.write_users(writes)] == outcomes
    assert 200 < outcomes.count(Outcome.REJECTED) < 400
    for percentage, outcome in ((0, Outcome.DELIVERED), (100, Outcome.REJECTED)):
        dummy = _dummy(settings=DummySettings(export_fail_percentage=percentage))
        assert {result.outcome for result in await dummy.write_users(writes)} == {outcome}


async def test_a_written_customer_is_updated_at_that_moment() -> None:
    dummy = _dummy()
    assert (await dummy.users("", NOW)).users == ()
    await dummy.write_users([UserWrite(id="dummy4", attributes={"email": "new@example.com"}, key=KEYS[0])])
    [user] = (await dummy.users("", NOW)).users
    assert (user.id, user.attributes["email"], user.updated_at) == ("dummy4", "new@example.com", NOW)


async def test_all_connections_have_the_same_customers() -> None:
    make = CONNECTORS["dummy"].engine.user_source
    assert make is not None
    one, other = (make(DummySettings(export_fail_percentage=each), make_context()) for each in (0, 5))
    assert (await one.users("")).users == (await other.users("")).users


async def test_written_customers_are_those_of_all_connections_of_a_workspace(tmp_path: Path) -> None:
    engine = CONNECTORS["dummy"].engine
    assert engine.user_sink is not None
    assert engine.user_source is not None
    sink = engine.user_sink(DummySettings(), make_context(data_folder=tmp_path / "1"))
    [result] = await sink.write_users([UserWrite(id="", attributes=GRACE, key=KEYS[0])])
    same, other = (
        engine.user_source(DummySettings(export_fail_percentage=5), make_context(data_folder=tmp_path / folder))
        for folder in ("1", "2")
    )
    [*_, written] = (await same.users("")).users
    assert (written.id, written.attributes) == (
        result.id,
        {**{name: value for name, value in GRACE.items() if name != "additionalProperties"}, "dummyId": result.id},
    )
    assert len((await other.users("")).users) == 10


def _create(path: Path, number: int) -> None:
    customers = Customers(path)
    for each in range(50):
        write = UserWrite(id="", attributes=GRACE, key=f"{number}-{each}")
        assert customers.write([write], NOW) == customers.write([write], NOW)


def test_processes_write_at_the_same_time(tmp_path: Path) -> None:
    path = tmp_path / "customers.db"
    processes = [multiprocessing.get_context("spawn").Process(target=_create, args=(path, n)) for n in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    users, remaining = Customers(path).after(0, 1_000)
    assert [user.id for user in users] == [f"dummy{number}" for number in range(1, 161)]
    assert remaining == 0


async def test_a_file_that_cannot_be_read_is_an_error_of_the_application(tmp_path: Path) -> None:
    path = tmp_path / "customers.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(Unavailable, match="customers of the dummy"):
        await DummyUsers(DummySettings(), make_context(), Customers(path)).users("")


async def test_a_customer_above_the_limit_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headwater.connectors.dummy.customers.MAX_CUSTOMERS", 11)
    writes = [UserWrite(id="", attributes=GRACE, key=key) for key in KEYS[:2]]
    written, refused = await _dummy().write_users(writes)
    assert (written.outcome, written.id) == (Outcome.DELIVERED, "dummy11")
    assert (refused.outcome, refused.reason) == (Outcome.REJECTED, "TooManyCustomers")
