"""Settings that are checked with the outside system when a connection is created or its settings are replaced."""

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from headwater.base.errors import HeadwaterError, Unavailable, Unprocessable
from headwater.catalog import Catalog
from headwater.connectors.contract import ConnectorContext
from headwater.connectors.dummy.settings import DummySettings
from headwater.connectors.environment import ConnectorEnvironment
from headwater.management import settings_checks
from headwater.management.blocking import BlockingCalls
from headwater.management.connections import CreateConnection, UpdateConnection, create_connection, update_connection
from headwater.management.settings_checks import SettingsChecks

CHECKS = SettingsChecks(ConnectorEnvironment(), BlockingCalls())
REQUEST = CreateConnection(name="a", role="Source", connector="dummy", settings={"operationDelay": "5ms"})


@pytest.fixture
def use(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Any]], None]:
    """Give the dummy a check."""

    def use(check: Callable[..., Any]) -> None:
        dummy = catalog.connectors["dummy"]
        engine = msgspec.structs.replace(dummy.engine, check=check)
        monkeypatch.setitem(
            catalog.connectors,
            "dummy",
            msgspec.structs.replace(dummy, engine=engine),
        )

    return use


def completed(settings: DummySettings, context: ConnectorContext) -> DummySettings:
    return msgspec.structs.replace(settings, export_fail_percentage=7)


async def test_the_settings_of_the_check_are_stored(
    catalog: Catalog, workspace: int, use: Callable[[Callable[..., Any]], None]
) -> None:
    use(completed)
    made = await create_connection(catalog, workspace, REQUEST, checks=CHECKS)
    assert catalog.decrypt_settings(made) == DummySettings(operation_delay="5ms", export_fail_percentage=7)
    change = UpdateConnection(name="b", settings={"operationDelay": "6ms"})
    changed = await update_connection(catalog, workspace, made.id, change, CHECKS)
    assert catalog.decrypt_settings(changed) == DummySettings(operation_delay="6ms", export_fail_percentage=7)


@pytest.mark.parametrize(
    "error", [Unprocessable("InvalidSettings", "the password is not accepted"), Unavailable("no connection was made")]
)
async def test_nothing_is_stored_if_the_check_fails(
    catalog: Catalog, workspace: int, use: Callable[[Callable[..., Any]], None], error: HeadwaterError
) -> None:
    made = await create_connection(catalog, workspace, REQUEST, checks=CHECKS)

    def refuse(settings: DummySettings, context: ConnectorContext) -> DummySettings:
        raise error

    use(refuse)
    with pytest.raises(type(error)):
        await create_connection(catalog, workspace, REQUEST, checks=CHECKS)
    change = UpdateConnection(name="b", settings={"operationDelay": "6ms"})
    with pytest.raises(type(error)):
        await update_connection(catalog, workspace, made.id, change, CHECKS)
    assert catalog.connections(workspace) == [made]


async def test_other_rules_come_before_the_check(
    catalog: Catalog, workspace: int, use: Callable[[Callable[..., Any]], None]
) -> None:
    asked = list[object]()
    use(lambda settings, context: asked.append(settings))
    for broken in ({"strategy": "Fusion"}, {"settings": {"operationDelay": 5}}, {"linked_connections": (1,)}):
        with pytest.raises(HeadwaterError):
            await create_connection(catalog, workspace, msgspec.structs.replace(REQUEST, **broken), checks=CHECKS)
    assert asked == []


async def test_settings_are_checked_on_the_event_loop(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check(settings: DummySettings, context: ConnectorContext) -> DummySettings:
        await asyncio.sleep(0)
        return completed(settings, context)

    async def hang(settings: DummySettings, context: ConnectorContext) -> DummySettings:
        await asyncio.Event().wait()
        return settings

    dummy, settings = catalog.connectors["dummy"], DummySettings(operation_delay="5ms")
    for http_check in (check, hang):
        engine = msgspec.structs.replace(dummy.engine, http_check=http_check)
        connector = msgspec.structs.replace(dummy, engine=engine)
        if http_check is check:
            assert await CHECKS.checked(1, connector, settings) == completed(settings, Mock())
        else:
            monkeypatch.setattr(settings_checks, "CHECK_SECONDS", 0.05)
            with pytest.raises(Unavailable, match="Dummy did not respond"):
                await CHECKS.checked(1, connector, settings)
