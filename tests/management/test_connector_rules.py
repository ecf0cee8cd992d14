"""Creating a connection of every documented connector: rejected requests, and connectors without an engine."""

from typing import Any

import msgspec
import pytest

from headwater.base.errors import HeadwaterError
from headwater.catalog import Catalog, Connection
from headwater.connectors.connector import Driver, Role
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.registry import CONNECTORS
from headwater.management.connections import (
    CreateConnection,
    UpdateConnection,
    create_connection,
    get_connection,
    update_connection,
)
from tests.management.unchanged import refused

POSTGRESQL = {"host": "db", "port": 5432, "username": "u", "database": "d", "schema": "public"}


def _request(connector: str, role: str = "Destination", **values: Any) -> CreateConnection:
    return CreateConnection(name="x", role=role, connector=connector, **values)


# the request, and the status, the code and the field of the error
REFUSED: list[tuple[CreateConnection, int, str, str]] = [
    (_request("csv"), 400, "BadRequest", "connector"),
    (_request("parquet", "Source"), 400, "BadRequest", "connector"),
    (_request("kafka", "Source"), 400, "BadRequest", "connector"),
    (_request("rabbitmq"), 400, "BadRequest", "connector"),
    (_request("webhook"), 400, "BadRequest", "role"),
    (_request("segment"), 400, "BadRequest", "role"),
    (_request("python"), 400, "BadRequest", "role"),
    (_request("google-analytics", "Source"), 400, "BadRequest", "role"),
    (_request("segment-api", "Source"), 400, "BadRequest", "role"),
    (_request("http-get"), 400, "BadRequest", "role"),
    (_request("http-post", "Source"), 400, "BadRequest", "role"),
    (_request("webhook", "Source", strategy="Fusion"), 400, "BadRequest", "strategy"),
    (_request("postgresql", sending_mode="Server"), 400, "BadRequest", "sendingMode"),
    (_request("dummy", sending_mode="Client"), 400, "BadRequest", "sendingMode"),
    (_request("dummy", "Source", sending_mode="Server"), 400, "BadRequest", "sendingMode"),
    (_request("dummy", auth_token="x", settings={"operationDelay": 5}), 400, "BadRequest", "authToken"),
    (_request("postgresql"), 400, "BadRequest", "settings"),
    (_request("brevo"), 400, "BadRequest", "settings"),
    (_request("python", "Source", settings={}), 400, "BadRequest", "settings"),
    (_request("webhook", "Source", settings={"a": 1}), 400, "BadRequest", "settings"),
    (_request("postgresql", settings={**POSTGRESQL, "port": "5432"}), 422, "InvalidSettings", "settings.port"),
    (_request("brevo", settings={"apiKey": 5}), 422, "InvalidSettings", "settings.apiKey"),
    (_request("dummy", settings={"operationDelay": 5}), 422, "InvalidSettings", "settings.operationDelay"),
    (_request("segment-api", settings={"writeKey": "k"}), 422, "InvalidSettings", "settings.writeKey"),
    (_request("http-webhook", "Source"), 400, "BadRequest", "role"),
    (_request("http-webhook"), 400, "BadRequest", "settings"),
    (_request("rudderstack", "Source", settings={"a": 1}), 400, "BadRequest", "settings"),
]


async def test_a_connector_without_its_driver_is_rejected(
    catalog: Catalog, workspace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = msgspec.structs.replace(CONNECTORS["sqlite"], driver=Driver("no_such_module", "sqlite"))
    monkeypatch.setitem(catalog.connectors, "sqlite", missing)
    async with refused(catalog, 422, "ConnectorNotAvailable", "connector"):
        await create_connection(catalog, workspace, _request("sqlite", settings={"path": "users.db"}))


@pytest.mark.parametrize(("request_", "status", "code", "field"), REFUSED)
async def test_a_connection_that_breaks_a_rule_of_its_connector_is_rejected(
    catalog: Catalog, workspace: int, request_: CreateConnection, status: int, code: str, field: str
) -> None:
    async with refused(catalog, status, code, field):
        await create_connection(catalog, workspace, request_)


async def test_availability_is_the_last_thing_that_is_looked_at(
    catalog: Catalog, workspace: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each corrected value reveals the next error. The last error is about the connector itself."""
    unavailable = msgspec.structs.replace(CONNECTORS["brevo"], available=False)
    monkeypatch.setitem(catalog.connectors, "brevo", unavailable)
    request: dict[str, Any] = {"strategy": "Fusion", "sending_mode": "Client", "auth_token": "x", "settings": None}
    fixes: list[dict[str, Any]] = [
        {"strategy": None},
        {"sending_mode": "Server"},
        {"auth_token": ""},
        {"settings": {"apiKey": ""}},
        {"settings": {"apiKey": "k"}},
        {},
    ]
    fields = []
    for fix in fixes:
        with pytest.raises(HeadwaterError) as caught:
            await create_connection(catalog, workspace, _request("brevo", **request))
        fields.append(caught.value.field)
        request.update(fix)
    assert fields == ["strategy", "sendingMode", "authToken", "settings", "settings.apiKey", "connector"]
    async with refused(catalog, 422, "ConnectorNotAvailable", "connector"):
        await create_connection(catalog, workspace, _request("brevo", **request))


@pytest.mark.parametrize("role", ["Source", "Destination"])
@pytest.mark.parametrize("code", CONNECTORS)
async def test_every_connector_in_every_role(catalog: Catalog, workspace: int, code: str, role: Role) -> None:
    """Without settings a connection is created, or rejected with one of the documented errors."""
    connector = catalog.connectors[code]
    capabilities = connector.capabilities(role)
    strategy = "Fusion" if connector.strategies and role == "Source" else None
    request = _request(code, role, strategy=strategy)
    if connector.type in ("File", "MessageBroker"):
        expected = (400, "BadRequest", "connector")
    elif capabilities is None:
        expected = (400, "BadRequest", "role")
    elif connector.oauth is not None and not connector.oauth.is_optional:
        expected = (400, "BadRequest", "authToken")
    elif capabilities.settings is not None and capabilities.settings.REQUIRED:
        expected = (400, "BadRequest", "settings")
    elif not connector.available:
        expected = (422, "ConnectorNotAvailable", "connector")
    else:
        made = await create_connection(catalog, workspace, request)
        assert made.sending_mode == (capabilities.sending_modes[0] if capabilities.sending_modes else None)
        assert bool(made.event_write_keys) is (connector.type in ("SDK", "Webhook"))
        return
    async with refused(catalog, *expected):
        await create_connection(catalog, workspace, request)


async def test_settings_are_kept_and_read_as_they_were_checked(catalog: Catalog, workspace: int) -> None:
    given = {"operationDelay": "5ms", "customerExportFailPercentage": 10.0, "unknown": {"a": [1]}}
    made = await create_connection(catalog, workspace, _request("dummy", settings=given))
    assert catalog.decrypt_settings(made) == DummySettings(export_fail_percentage=10, operation_delay="5ms")
    assert "5ms" not in repr(made)


async def test_a_dummy_needs_no_settings(catalog: Catalog, workspace: int) -> None:
    made = await create_connection(catalog, workspace, _request("dummy"))
    assert made.sealed_settings is None
    assert catalog.decrypt_settings(made) == DummySettings()


async def _dummy(catalog: Catalog, workspace: int) -> Connection:
    return await create_connection(catalog, workspace, _request("dummy", settings={"operationDelay": "5ms"}))


async def test_an_update_without_settings_leaves_them(catalog: Catalog, other: Catalog, workspace: int) -> None:
    made = await _dummy(catalog, workspace)
    await update_connection(catalog, workspace, made.id, UpdateConnection(name="New", sending_mode="Server"))
    await other.refresh()
    found = await get_connection(other, workspace, made.id)
    assert (found.name, found.sealed_settings) == ("New", made.sealed_settings)


async def test_an_update_with_settings_replaces_all_of_them(catalog: Catalog, other: Catalog, workspace: int) -> None:
    made = await _dummy(catalog, workspace)
    request = UpdateConnection(name="x", sending_mode="Server", settings={"customerExportFailPercentage": 1})
    await update_connection(catalog, workspace, made.id, request)
    await other.refresh()
    settings = other.decrypt_settings(await get_connection(other, workspace, made.id))
    assert settings == DummySettings(export_fail_percentage=1)


async def test_invalid_settings_of_an_update(catalog: Catalog, workspace: int, website: Connection) -> None:
    made = await _dummy(catalog, workspace)
    request = UpdateConnection(name="New", sending_mode="Server", settings={"operationDelay": "soon"})
    async with refused(catalog, 422, "InvalidSettings", "settings.operationDelay"):
        await update_connection(catalog, workspace, made.id, request)
    async with refused(catalog, 400, "BadRequest", "settings"):
        await update_connection(
            catalog, workspace, website.id, UpdateConnection(name="x", strategy="Fusion", settings={})
        )
    async with refused(catalog, 400, "BadRequest", "sendingMode"):  # before the settings are looked at
        await update_connection(catalog, workspace, made.id, UpdateConnection(name="x", settings={"operationDelay": 5}))
