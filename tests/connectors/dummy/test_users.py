"""The dummy's users: the conformance suites, known customers, and operations with the delay of the settings."""

import asyncio
import base64

import pytest

from headwater.base.errors import BadRequest
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
