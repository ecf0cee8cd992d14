"""The dummy as an application: known customers, page by page and each once, as slow as it is told to be."""

import asyncio
import base64
from datetime import timedelta

import pytest

from headwater.base.errors import BadRequest
from headwater.connectors.catalogue import CONNECTORS
from headwater.connectors.dummy.application import Dummy
from headwater.connectors.dummy.customers import Customers
from headwater.connectors.dummy.settings import DummySettings
from headwater.schemas import Codec

DELAY = timedelta(milliseconds=50)
FOREIGN = (b"dummy:", b"dummy:0", b"dummy:-1", b"dummy:05", b"dummy:1x")


def _dummy(page_size: int = 100, settings: DummySettings | None = None) -> Dummy:
    return Dummy(settings or DummySettings(), Customers(), page_size=page_size)


async def test_all_customers_come_on_one_page() -> None:
    page = await _dummy().users("")
    assert [user["dummyId"] for user in page.users] == [f"dummy{number}" for number in range(1, 11)]
    assert page.cursor == ""


@pytest.mark.parametrize("size", [1, 3, 5, 9, 10, 11])
async def test_pages_give_every_customer_once_and_come_to_an_end(size: int) -> None:
    dummy, cursor, seen = _dummy(size), "", list[object]()
    for _ in range(12):
        page = await dummy.users(cursor)
        assert 1 <= len(page.users) <= size
        seen += [user["dummyId"] for user in page.users]
        cursor = page.cursor
        if not cursor:
            break
    assert seen == [f"dummy{number}" for number in range(1, 11)]


async def test_a_cursor_may_be_used_again() -> None:
    dummy = _dummy(4)
    cursor = (await dummy.users("")).cursor
    assert await dummy.users(cursor) == await dummy.users(cursor)


async def test_every_customer_is_what_the_schema_says() -> None:
    dummy = _dummy()
    schema = (await dummy.user_schemas()).source
    codec = Codec(schema)
    users = (await dummy.users("")).users
    for user in users:
        assert codec.decode(codec.encode(user)) == user
    missing = {name for name in schema.by_name if any(name not in user for user in users)}
    null = {name for name in schema.by_name if any(name in user and user[name] is None for user in users)}
    assert missing == {property.name for property in schema if property.read_optional}
    assert null == {property.name for property in schema if property.nullable}


@pytest.mark.parametrize(
    "cursor",
    ["x", "%", "dummy:5", "\N{GRINNING FACE}", "A" * 1_000, *(base64.b64encode(text).decode() for text in FOREIGN)],
)
async def test_a_cursor_that_it_did_not_give(cursor: str) -> None:
    with pytest.raises(BadRequest) as caught:
        await _dummy().users(cursor)
    assert caught.value.field == "cursor"


async def test_a_cursor_behind_the_end_is_the_end() -> None:
    page = await _dummy().users(base64.urlsafe_b64encode(b"dummy:999").decode())
    assert (page.users, page.cursor) == ((), "")


async def test_an_operation_takes_as_long_as_the_settings_say() -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    await _dummy(settings=DummySettings(least_delay=DELAY, most_delay=DELAY)).users("")
    assert loop.time() - began >= DELAY.total_seconds()


async def test_the_destination_schema_is_for_writing() -> None:
    schemas = await _dummy().user_schemas()
    assert "dummyId" not in schemas.destination.by_name
    assert set(schemas.destination.by_name) - set(schemas.source.by_name) == {"additionalProperties"}
    assert not any(property.read_optional for property in schemas.destination)


async def test_its_event_types() -> None:
    types = {type_.id: type_ for type_ in await _dummy().event_types()}
    assert list(types) == [
        "send_add_to_cart",
        "send_custom_event",
        "send_identity",
        "send_generic_event",
        "send_event_with_no_schema",
    ]
    assert [id_ for id_, type_ in types.items() if type_.schema is None] == ["send_event_with_no_schema"]
    required = {id_ for id_, type_ in types.items() for property in type_.schema or () if property.create_required}
    assert required == {"send_add_to_cart", "send_identity"}
    assert {type_.filter for type_ in types.values()} == {""}
    assert all(type_.name and type_.description for type_ in types.values())


async def test_all_connections_have_the_same_customers() -> None:
    open_ = CONNECTORS["dummy"].application
    assert open_ is not None
    one, other = open_({}), open_({"customerExportFailPercentage": 5})
    assert (await one.users("")).users == (await other.users("")).users
