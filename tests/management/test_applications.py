"""Calls to applications: only for connections that have one, for supported capabilities, and within the time limit."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from headwater.base.errors import HeadwaterError, Unavailable
from headwater.catalog import Catalog, Connection
from headwater.connectors.contract import ConnectorContext, Engine, SourceUser, UsersPage
from headwater.connectors.dummy.schemas import READABLE_SCHEMA, WRITABLE_SCHEMA
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.settings import Settings
from headwater.filters import Condition, Filter
from headwater.management import applications
from headwater.management.connections import CreateConnection, create_connection
from headwater.management.pipelines import CreatePipeline, create_pipeline
from headwater.schemas import ObjectType, Property, Schema, StringType, parse_schema
from tests.management.unchanged import IMPOSSIBLE_IDS, UNKNOWN_ID, refused

EMAIL = ObjectType((Property("email", StringType()),))


async def _made(catalog: Catalog, workspace: int, connector: str, role: str = "Destination") -> Connection:
    return await create_connection(catalog, workspace, CreateConnection(name="x", role=role, connector=connector))


@pytest.fixture
async def dummy(catalog: Catalog, workspace: int) -> Connection:
    return await _made(catalog, workspace, "dummy")


def _broken(catalog: Catalog, **methods: Any) -> None:
    """Give the catalog a dummy with some of its methods replaced."""
    real = CONNECTORS["dummy"].engine

    def broken(make: Any) -> Any:
        def make_broken(settings: Settings, context: ConnectorContext) -> Any:
            made = make(settings, context)
            for name, method in methods.items():
                setattr(made, name, method)
            return made

        return make_broken

    engine = Engine(
        user_source=broken(real.user_source), user_sink=broken(real.user_sink), event_sink=broken(real.event_sink)
    )
    connectors: Any = catalog.connectors
    connectors["dummy"] = msgspec.structs.replace(CONNECTORS["dummy"], engine=engine)


async def _unavailable(*_: object) -> Any:
    raise Unavailable("the application is away")


async def _forever(*_: object) -> Any:
    await asyncio.sleep(60)


async def test_event_types_are_those_of_destinations_that_take_events(
    catalog: Catalog, workspace: int, dummy: Connection, website: Connection
) -> None:
    assert len(await applications.find_event_types(catalog, dummy)) == 7
    source = await _made(catalog, workspace, "dummy", "Source")
    database = await _made(catalog, workspace, "db")
    for connection in (source, database, website):
        assert await applications.find_event_types(catalog, connection) == ()


class _RecordingEnvironment(ConnectorEnvironment, frozen=True, kw_only=True):
    """Records the connections whose context was opened."""

    opened: list[int]

    @asynccontextmanager
    async def context(self, *arguments: Any, **options: Any) -> AsyncIterator[ConnectorContext]:
        self.opened.append(arguments[1])
        async with super().context(*arguments, **options) as context:
            yield context


async def test_the_environment_of_the_process_is_used(catalog: Catalog, workspace: int, dummy: Connection) -> None:
    environment = _RecordingEnvironment(opened=[])
    await applications.find_event_types(catalog, dummy, environment)
    await applications.event_type_schema(catalog, workspace, dummy.id, "send_identity", environment)
    await applications.users(catalog, workspace, dummy.id, EMAIL, "", environment)
    await create_pipeline(
        catalog,
        workspace,
        CreatePipeline(
            name="Send events",
            connection=dummy.id,
            target="Event",
            event_type="send_event_with_no_schema",
        ),
        environment=environment,
    )
    assert environment.opened == [dummy.id] * 4


@pytest.mark.parametrize("answer", [_unavailable, _forever])
async def test_an_application_that_is_away_costs_its_event_types_only(
    catalog: Catalog, workspace: int, dummy: Connection, answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(applications, "TIMEOUT_SECONDS", 0.05)
    _broken(catalog, event_types=answer, readable_schema=answer, users=answer)
    assert await applications.find_event_types(catalog, dummy) == ()
    async with refused(catalog, 503, "ServiceUnavailable"):
        await applications.user_schemas(catalog, workspace, dummy.id)
    async with refused(catalog, 503, "ServiceUnavailable"):
        await applications.event_type_schema(catalog, workspace, dummy.id, "send_identity")
    async with refused(catalog, 503, "ServiceUnavailable"):
        await applications.users(catalog, workspace, dummy.id, EMAIL, "")


async def test_user_schemas(catalog: Catalog, workspace: int, dummy: Connection) -> None:
    source = await _made(catalog, workspace, "dummy", "Source")
    schemas = await applications.user_schemas(catalog, workspace, source.id)
    assert (schemas.source, schemas.destination) == (READABLE_SCHEMA, None)
    schemas = await applications.user_schemas(catalog, workspace, dummy.id)
    assert (schemas.source, schemas.destination) == (READABLE_SCHEMA, WRITABLE_SCHEMA)


async def test_an_application_that_cannot_be_read_has_a_schema_for_writing(
    catalog: Catalog, workspace: int, dummy: Connection
) -> None:
    connectors: Any = catalog.connectors
    made = CONNECTORS["dummy"]
    engine = msgspec.structs.replace(made.engine, user_source=None)
    connectors["dummy"] = msgspec.structs.replace(made, engine=engine)
    schemas = await applications.user_schemas(catalog, workspace, dummy.id)
    assert (schemas.source, schemas.destination) == (None, WRITABLE_SCHEMA)


async def test_the_schema_of_an_event_type(catalog: Catalog, workspace: int, dummy: Connection) -> None:
    schema = await applications.event_type_schema(catalog, workspace, dummy.id, "send_custom_event")
    assert schema == EMAIL
    assert await applications.event_type_schema(catalog, workspace, dummy.id, "send_event_with_no_schema") is None


async def test_users_have_the_properties_that_are_asked_for(
    catalog: Catalog, workspace: int, dummy: Connection
) -> None:
    schema = parse_schema(
        '{"kind":"object","properties":[{"name":"favourite_movie","type":{"kind":"string"},"readOptional":true},'
        '{"name":"dummyId","type":{"kind":"string"}},{"name":"address","nullable":true,"type":{"kind":"object",'
        '"properties":[{"name":"city","nullable":true,"type":{"kind":"string"}}]}}]}'
    )
    users, cursor = await applications.users(catalog, workspace, dummy.id, schema, "")
    assert cursor == ""
    assert len(users) == 10
    assert users[0] == b'{"favourite_movie":"Metropolis","dummyId":"dummy1","address":{"city":"London"}}'
    assert users[5] == b'{"favourite_movie":"Apollo 13","dummyId":"dummy6","address":null}'
    assert users[7] == b'{"dummyId":"dummy8","address":{"city":null}}'


@pytest.mark.parametrize(
    "schema",
    [
        '{"kind":"object","properties":[{"name":"phone","type":{"kind":"string"}}]}',
        '{"kind":"object","properties":[{"name":"email","type":{"kind":"json"}}]}',
        '{"kind":"object","properties":[{"name":"email","type":{"kind":"string"},"nullable":true}]}',
        '{"kind":"object","properties":[{"name":"favourite_movie","type":{"kind":"string"}}]}',
    ],
)
async def test_a_schema_that_does_not_fit(catalog: Catalog, workspace: int, dummy: Connection, schema: str) -> None:
    async with refused(catalog, 422, "SchemaNotAligned", "schema"):
        await applications.users(catalog, workspace, dummy.id, parse_schema(schema), "x")


async def test_a_malformed_cursor(catalog: Catalog, workspace: int, dummy: Connection) -> None:
    async with refused(catalog, 400, "BadRequest", "cursor"):
        await applications.users(catalog, workspace, dummy.id, EMAIL, "x")


async def test_a_user_that_is_not_what_its_schema_says(catalog: Catalog, workspace: int, dummy: Connection) -> None:
    async def users(_cursor: str) -> UsersPage:
        return UsersPage(users=(SourceUser(id="1", attributes={"email": None}),), cursor="")

    _broken(catalog, users=users)
    with pytest.raises(HeadwaterError) as caught:
        await applications.users(catalog, workspace, dummy.id, EMAIL, "")
    assert caught.value.status == 503


async def test_a_filter_is_applied_to_each_page(catalog: Catalog, workspace: int, dummy: Connection) -> None:
    _broken(catalog, _page_size=4)
    filter_ = Filter("and", (Condition("email", "starts with", ("a",)),))
    pages: list[list[bytes]] = []
    cursor = ""
    while not pages or cursor:
        users, cursor = await applications.users(catalog, workspace, dummy.id, EMAIL, cursor, filter_=filter_)
        pages.append(users)
    assert len(pages) == 3
    assert pages[0][0] == b'{"email":"ada@example.com"}'
    assert [] in pages, "a page without users that match has a cursor too"


async def test_a_schema_is_needed(catalog: Catalog, workspace: int, dummy: Connection) -> None:
    none: Schema | None = parse_schema("null")
    async with refused(catalog, 400, "BadRequest", "schema"):
        await applications.users(catalog, workspace, dummy.id, none, "")


async def _users(catalog: Catalog, workspace: int, id_: int) -> None:
    await applications.users(catalog, workspace, id_, None, "x")


async def _user_schemas(catalog: Catalog, workspace: int, id_: int) -> None:
    await applications.user_schemas(catalog, workspace, id_)


async def _event_schema(catalog: Catalog, workspace: int, id_: int) -> None:
    await applications.event_type_schema(catalog, workspace, id_, "send_identity")


@pytest.mark.parametrize("call", [_users, _user_schemas, _event_schema])
async def test_connections_that_have_no_application_or_are_not_there(
    catalog: Catalog, workspace: int, stranger: int, dummy: Connection, website: Connection, call: Any
) -> None:
    database = await _made(catalog, workspace, "db")
    for id_ in (*IMPOSSIBLE_IDS, website.id, database.id):
        async with refused(catalog, 400, "BadRequest", "id"):
            await call(catalog, workspace, id_)
    for scope, id_ in ((workspace, UNKNOWN_ID), (stranger, dummy.id)):
        async with refused(catalog, 404, "NotFound", "id"):
            await call(catalog, scope, id_)


async def test_what_an_application_does_not_support(catalog: Catalog, workspace: int, dummy: Connection) -> None:
    ads = await create_connection(
        catalog, workspace, CreateConnection(name="x", role="Destination", connector="ads", sending_mode="Client")
    )
    for call in (_users, _user_schemas):
        async with refused(catalog, 400, "BadRequest", "id"):
            await call(catalog, workspace, ads.id)
    source = await _made(catalog, workspace, "dummy", "Source")
    async with refused(catalog, 400, "BadRequest", "id"):
        await _event_schema(catalog, workspace, source.id)
    async with refused(catalog, 400, "BadRequest", "type"):
        await applications.event_type_schema(catalog, workspace, dummy.id, "")
    async with refused(catalog, 404, "NotFound", "type"):
        await applications.event_type_schema(catalog, workspace, dummy.id, "send_nothing")
