"""Salesforce's connector against Salesforce's server."""

import asyncio
import json
from collections.abc import Callable, Sequence
from datetime import date, timedelta
from typing import Any, ClassVar

import pytest

from headwater.base.errors import Unavailable, Unprocessable
from headwater.connectors.addresses import AddressPolicy
from headwater.connectors.contract import AccessToken, OAuthTokens
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.origins import Origins
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.salesforce.settings import SalesforceSettings
from headwater.management.authorization import GrantedToken
from headwater.management.blocking import BlockingCalls
from headwater.management.settings_checks import SettingsChecks
from headwater.schemas import DateTime, Record
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance, VendorUserSourceConformance
from tests.connectors.vendors.salesforce import INSTANCE, TOKEN, SalesforceServer
from tests.connectors.vendors.server import CALM, Plan, VendorServer
from tests.virtualtime import START, VirtualClock, run_in_virtual_time

SETTINGS = {"object": "Contact", "externalIDField": "Headwater_ID__c"}


def grant() -> AccessToken:
    return GrantedToken(OAuthTokens(access_token=TOKEN, url=INSTANCE))


class TestUserSink(VendorUserSinkConformance):
    CODE = "salesforce"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (TOKEN,)
    BATCH = 5
    CHANGED = "FirstName"

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return SalesforceServer(plan, now)

    def access_token(self) -> AccessToken:
        return grant()

    def attributes(self, number: int, version: int) -> Record:
        return {
            "Headwater_ID__c": self.refused_key(number),
            "LastName": f"Name {number}",
            "FirstName": f"Version {version}",
            "Email": None,
            "Visits__c": float(version),
            "Birthdate": date(1990, 1, 1 + number % 28),
            "LastSeen__c": DateTime.of(START + timedelta(days=version)),
            "HasOptedOutOfEmail": version == 2,
        }

    def find(self, server: Any, number: int) -> list[str]:
        found: list[str] = server.find("Headwater_ID__c", self.refused_key(number))
        return found

    def has(self, server: Any, id_: str, attributes: Record) -> bool:
        moment, day = attributes["LastSeen__c"], attributes["Birthdate"]
        assert isinstance(moment, DateTime) and isinstance(day, date)
        written = attributes | {
            "LastSeen__c": moment.to_datetime().strftime("%Y-%m-%dT%H:%M:%S.000Z"),
            "Birthdate": day.isoformat(),
        }
        stored = server.by_id[id_]
        return bool(json.loads(json.dumps(written)).items() <= stored.items())

    def missing_id(self) -> str:
        return "003xx000004TmiQAAS"


class TestUserSource(VendorUserSourceConformance):
    CODE = "salesforce"
    SETTINGS: ClassVar = SETTINGS
    SECRETS = (TOKEN,)

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        server = SalesforceServer(plan, now)
        server.batch = 130
        return server

    def access_token(self) -> AccessToken:
        return grant()

    def fill(self, server: Any, count: int) -> Sequence[str]:
        return [
            server.add(
                START + timedelta(seconds=number),
                LastName="Lovelace",
                Name=f"Ada Lovelace {number}",
                Email=f"user-{number}@example.com",
                Birthdate="1815-12-10",
                LastSeen__c="2026-05-04T12:00:00.500+0000",
                Visits__c=1.5,
                MailingAddress={"city": "Oslo"},
                MailingCity="Oslo",
            )
            for number in range(count)
        ]

    def expected(self, number: int) -> Record:
        return {
            "LastName": "Lovelace",
            "FirstName": None,
            "Email": f"user-{number}@example.com",
            "Birthdate": date(1815, 12, 10),
            "LastSeen__c": DateTime.parse("2026-05-04T12:00:00.5Z"),
            "Visits__c": 1.5,
            "HasOptedOutOfEmail": False,
            "MailingCity": "Oslo",
            "SystemModstamp": DateTime.of(START + timedelta(seconds=number)),
        }


def test_settings_are_checked_with_the_account(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(clock: VirtualClock) -> None:
        server = SalesforceServer(CALM, asyncio.get_running_loop().time)
        connector, settings = CONNECTORS["salesforce"], SalesforceSettings.read(SETTINGS)
        async with server.running():
            environment = ConnectorEnvironment(
                addresses=AddressPolicy.parse("127.0.0.0/8"), clock=clock, origins=Origins(server.origins)
            )
            checks = SettingsChecks(environment, BlockingCalls())
            assert await checks.checked(1, connector, settings, grant()) == settings
            for wrong, field in (
                ({"object": "Contact__x"}, "settings.object"),
                ({"externalIDField": "LastName"}, "settings.externalIDField"),
                ({"externalIDField": "Gone__c"}, "settings.externalIDField"),
            ):
                with pytest.raises(Unprocessable) as refused:
                    await checks.checked(1, connector, SalesforceSettings.read({**SETTINGS, **wrong}), grant())
                assert (refused.value.code, refused.value.field) == ("InvalidSettings", field)
            server.is_revoked = True
            with pytest.raises(Unprocessable) as refused:
                await checks.checked(1, connector, settings, grant())
            assert refused.value.field == "authToken" and TOKEN not in refused.value.message
            server.is_revoked = False
            for plan in (Plan(failed=1.0), Plan(throttled=1.0)):
                server.plan = plan
                with pytest.raises(Unavailable):
                    await checks.checked(1, connector, settings, grant())
        with pytest.raises(Unavailable):
            await checks.checked(1, connector, settings, grant())
        assert server.violations == []

    run_in_virtual_time(monkeypatch, (), main)
