"""Queries and tables of databases over REST and gRPC."""

import json
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from grpc import aio

from headwater.api import ERROR_BODIES, LENIENT_SERVICES, ErrorInterceptor, register
from headwater.connectors.connector import Driver
from headwater.connectors.environment import ConnectorEnvironment
from headwater.management import databases
from headwater.rest.v1 import databases_pb2 as rest_pb
from headwater.v1 import connections_pb2, connectors_pb2
from headwater.v1 import databases_pb2 as pb
from tests.api.conftest import Api, services
from tests.harness import Harness

QUERY, QUERY_JSON, TABLE = (
    "DatabaseService/QueryDatabase",
    "rest.DatabaseService/QueryDatabase",
    "DatabaseService/GetTableSchema",
)
FILE = "shop/people.db"
ENDLESS = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) AS c FROM n"


@pytest.fixture
def path(harness: Harness) -> Path:
    """A database file of the workspace."""
    path = harness.folder / "files" / str(harness.workspace) / FILE
    path.parent.mkdir(parents=True)
    database = sqlite3.connect(path)
    database.executescript(
        "CREATE TABLE people (id INTEGER PRIMARY KEY, name TEXT, photo BLOB, born DATE, "
        "initial TEXT GENERATED ALWAYS AS (substr(name, 1, 1)) VIRTUAL);"
        "INSERT INTO people (id, name, born) VALUES (1, 'Ada', '1815-12-10'), (2, 'Bob', 'unknown'), (3, NULL, NULL)"
    )
    database.close()
    return path


@pytest.fixture
async def api(harness: Harness, path: Path) -> AsyncIterator[Api]:
    """An API that can reach files."""
    environment = ConnectorEnvironment(clock=harness.clock, filesystem_root=harness.folder / "files")
    server = aio.server(interceptors=[ErrorInterceptor(ERROR_BODIES, lenient=LENIENT_SERVICES)])
    register(server, replace(services(harness), environment=environment))
    address = f"unix:{harness.folder}/databases.sock"
    server.add_insecure_port(address)
    await server.start()
    async with aio.insecure_channel(address) as channel:
        yield Api(harness, channel)
    await server.stop(None)


async def create(api: Api, role: str = "Source", connector: str = "sqlite", **settings: Any) -> Any:
    request = connections_pb2.CreateConnectionRequest(name="x", role=role, connector=connector)
    request.settings.update(settings or {"path": FILE})
    return await api.call("ConnectionService/CreateConnection", request)


async def query(api: Api, id_: int, text: str, limit: int = 10) -> Any:
    body = await api.call(QUERY_JSON, rest_pb.QueryDatabaseRequest(id=id_, query=text, limit=limit))
    return json.loads(body.data) if hasattr(body, "data") else body


async def test_rows_are_equal_over_rest_and_grpc(api: Api) -> None:
    id_ = (await create(api)).id
    text = "SELECT id, name FROM people WHERE id >= 2 OR ${updated_at} IS NULL ORDER BY id LIMIT ${limit}"
    result = await query(api, id_, text, 2)
    assert result == {
        "rows": [{"id": "1", "name": "Ada"}, {"id": "2", "name": "Bob"}],
        "schema": {
            "kind": "object",
            "properties": [
                {"name": "id", "type": {"kind": "int", "bitSize": 64}, "nullable": True, "description": ""},
                {"name": "name", "type": {"kind": "string"}, "nullable": True, "description": ""},
            ],
        },
        "issues": None,
    }
    typed = await api.call(QUERY, pb.QueryDatabaseRequest(id=id_, query=text, limit=2))
    assert [json.loads(row) for row in typed.rows_json] == result["rows"]
    assert [property_.name for property_ in typed.schema.properties] == ["id", "name"]


async def test_without_a_limit_there_is_only_the_schema(api: Api) -> None:
    id_ = (await create(api)).id
    result = await query(api, id_, "SELECT name FROM people", 0)
    assert result["rows"] == [] and [each["name"] for each in result["schema"]["properties"]] == ["name"]


async def test_columns_and_values_that_cannot_be_used_are_explained(api: Api) -> None:
    id_ = (await create(api)).id
    result = await query(api, id_, 'SELECT name, photo, born, 1 AS "a b" FROM people ORDER BY id')
    assert result["rows"] == [
        {"name": "Ada", "born": "1815-12-10"},
        {"name": "Bob", "born": None},
        {"name": None, "born": None},
    ]
    assert ["photo" in result["issues"][0], "a b" in result["issues"][1], "born" in result["issues"][2]] == [True] * 3
    assert await query(api, id_, "SELECT photo FROM people") == {
        "rows": [],
        "schema": None,
        "issues": result["issues"][:1],
    }


@pytest.mark.parametrize(
    ("text", "limit", "reason", "field"),
    [
        ("", 0, "BadRequest", "query"),
        ("SELECT 1", -1, "BadRequest", "limit"),
        ("SELECT 1", 101, "BadRequest", "limit"),
        ("SELECT ${x} AS a", 0, "InvalidPlaceholder", "query"),
        ("SELECT '${limit}' AS a", 0, "InvalidPlaceholder", "query"),
        ("SELECT a FROM missing", 0, "ServiceUnavailable", None),
        ("DELETE FROM people", 0, "ServiceUnavailable", None),
        ("SELECT 1 AS a; DROP TABLE people", 0, "ServiceUnavailable", None),
        ("SELECT id, id FROM people", 0, "ServiceUnavailable", None),
        ("SELECT " + ", ".join(["id"] * 100) + " FROM people", 0, "ServiceUnavailable", None),
    ],
)
async def test_invalid_queries(api: Api, text: str, limit: int, reason: str, field: str | None) -> None:
    failed = await query(api, (await create(api)).id, text, limit)
    assert (failed.reason, dict(failed.metadata).get("field")) == (reason, field)
    if text.count("id") == 100:
        assert "column id occurs 100 times" in failed.message


async def test_an_endless_query_is_ended(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(databases, "QUERY_SECONDS", 0.3)
    id_ = (await create(api)).id
    failed = await query(api, id_, ENDLESS)
    assert failed.reason == "ServiceUnavailable"
    # The query no longer runs: as many as a workspace may have at the same time follow each other.
    for _ in range(5):
        assert (await query(api, id_, ENDLESS)).reason == "ServiceUnavailable"
    monkeypatch.setattr(databases, "QUERY_SECONDS", 20.0)
    assert (await query(api, id_, "SELECT 1 AS a"))["rows"] == [{"a": "1"}]


async def test_a_large_result_is_cut(api: Api) -> None:
    id_ = (await create(api)).id
    numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 5)"
    text = f"{numbers} SELECT hex(zeroblob(300000)) AS a FROM n"
    result = await query(api, id_, text)
    assert len(result["rows"]) == 3
    assert result["issues"] == ["only the first 3 rows are returned, because they are large"]


async def test_rows_that_do_not_fit_are_not_read(api: Api) -> None:
    id_ = (await create(api)).id
    numbers = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100)"
    text = f"{numbers} SELECT CASE WHEN i < 10 THEN hex(zeroblob(1000000)) ELSE json('not JSON') END AS a FROM n"
    assert len((await query(api, id_, text, 100))["rows"]) == 1


async def test_the_columns_of_a_table(api: Api) -> None:
    id_ = (await create(api, "Destination")).id
    table = await api.call(TABLE, pb.GetTableSchemaRequest(id=id_, name="people"))
    assert [property_.name for property_ in table.schema.properties] == ["id", "name", "born"]
    assert len(table.issues) == 2 and "photo" in table.issues[0] and "initial" in table.issues[1]


@pytest.mark.parametrize(
    ("name", "reason", "field"),
    [
        ("", "BadRequest", "name"),
        ("x" * 1_025, "BadRequest", "name"),
        ("missing", "NotFound", "name"),
        ("people; DROP TABLE people", "NotFound", "name"),
        ("People", "NotFound", "name"),
    ],
)
async def test_invalid_tables(api: Api, name: str, reason: str, field: str) -> None:
    id_ = (await create(api, "Destination")).id
    failed = await api.call(TABLE, pb.GetTableSchemaRequest(id=id_, name=name))
    assert (failed.reason, dict(failed.metadata).get("field")) == (reason, field)


async def test_only_databases_of_the_right_role(api: Api) -> None:
    source, destination = (await create(api)).id, (await create(api, "Destination")).id
    dummy = (await create(api, "Source", "dummy", operationDelay="1ms")).id
    for id_ in (destination, dummy):
        assert (await query(api, id_, "SELECT 1 AS a")).reason == "BadRequest"
    for id_ in (source, dummy):
        assert (await api.call(TABLE, pb.GetTableSchemaRequest(id=id_, name="people"))).reason == "BadRequest"
    assert (await query(api, 2**31 - 1, "SELECT 1 AS a")).reason == "NotFound"


async def test_settings_are_checked_with_the_database(api: Api, path: Path) -> None:
    (path.parent / "text.db").write_text("this is a text and no database, but it is long enough to look like one" * 9)
    (path.parent / "link.db").symlink_to(path)
    for settings, reason in [
        ({"path": "shop/text.db"}, "InvalidSettings"),
        ({"path": "shop/missing.db"}, "ServiceUnavailable"),
        ({"path": "shop/link.db"}, "InvalidSettings"),
        ({"path": "../1/shop/people.db"}, "InvalidSettings"),
        ({"path": "shop"}, "InvalidSettings"),
    ]:
        assert (await create(api, **settings)).reason == reason, settings


async def test_a_driver_that_is_not_installed(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = api.harness.catalog
    connectors = dict(catalog.connectors)
    missing = msgspec.structs.replace(connectors["sqlite"], driver=Driver("no_such_module", "sqlite"))
    monkeypatch.setattr(catalog, "connectors", connectors | {"sqlite": missing})
    shown = await api.call("ConnectorService/GetConnector", connectors_pb2.GetConnectorRequest(code="sqlite"))
    assert (shown.available, shown.installed) == (True, False)
    assert shown.install_command == "pip install 'headwater[sqlite]'"
    assert (await create(api)).reason == "ConnectorNotAvailable"
    postgresql = await api.call("ConnectorService/GetConnector", connectors_pb2.GetConnectorRequest(code="postgresql"))
    assert (postgresql.installed, postgresql.install_command) == (True, "")
