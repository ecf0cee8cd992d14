"""The conformance suites of a vendor's users find each kind of fault that they are for: Klaviyo's with one fault."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from headwater.base.errors import HeadwaterError, Unavailable
from headwater.connectors.contract import (
    HttpRequest,
    ItemResult,
    Outcome,
    UsersPage,
    UserWrite,
    rejected,
)
from headwater.connectors.klaviyo.users import KlaviyoProfiles
from headwater.connectors.registry import CONNECTORS
from tests.connectors.conformance import vendor_users
from tests.connectors.klaviyo.test_vendor import TestUserSink as Sink
from tests.connectors.klaviyo.test_vendor import TestUserSource as Source
from tests.connectors.vendors.klaviyo import KEY

SEED = 1


class ReportsSuccess(KlaviyoProfiles):
    """Takes a refused user for one that was written."""

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        results = await super().write_users(users)
        return [
            ItemResult(outcome=Outcome.DELIVERED, id="1") if each.outcome is Outcome.REJECTED else each
            for each in results
        ]


class RejectsTooMuch(KlaviyoProfiles):
    """Takes a failure of the vendor for a rejection of the user."""

    async def _write(self, user: UserWrite) -> ItemResult:
        try:
            return await super()._write(user)
        except Unavailable as error:
            return rejected("Failed", error.message)


class MixesResults(KlaviyoProfiles):
    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        return list(reversed(await super().write_users(users)))


class Forgets(KlaviyoProfiles):
    """Leaves out the last user of a call."""

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        return await super().write_users(users[:-1] or users)


class IgnoresRates(KlaviyoProfiles):
    write_rates = ()


class CreatesAgain(KlaviyoProfiles):
    """Gives each request another identifier, so that a repetition creates a second user."""

    count = 0

    def request(self, id_: str, attributes: dict[str, Any]) -> HttpRequest:
        CreatesAgain.count += 1
        request = super().request(id_, attributes)
        body = request.body.replace(b'"email":"', b'"email":"%d-' % CreatesAgain.count)
        return msgspec.structs.replace(request, body=body)


class UpdatesByAttributes(KlaviyoProfiles):
    """Ignores the ids of users."""

    def request(self, id_: str, attributes: dict[str, Any]) -> HttpRequest:
        return super().request("", attributes)


class ClearsOthers(KlaviyoProfiles):
    def request(self, id_: str, attributes: dict[str, Any]) -> HttpRequest:
        return super().request(id_, {"title": None, "location": None, "properties": {"version": None}, **attributes})


class SendsUnknownAttributes(KlaviyoProfiles):
    def request(self, id_: str, attributes: dict[str, Any]) -> HttpRequest:
        return super().request(id_, {**attributes, "nickname": "x"})


class Shows(KlaviyoProfiles):
    """Shows the key in its errors."""

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        try:
            return await super().write_users(users)
        except Unavailable as error:
            raise Unavailable(f"{error.message} {KEY}") from error


class EndsEarly(KlaviyoProfiles):
    """Takes a failure for the end of the users."""

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        try:
            return await super().users(cursor, updated_since)
        except Unavailable:
            return UsersPage(users=(), cursor="")


class ReadsTwice(KlaviyoProfiles):
    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        page = await super().users(cursor, updated_since)
        return msgspec.structs.replace(page, users=(*page.users[1:], page.users[-1]))


class LosesValues(KlaviyoProfiles):
    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        page = await super().users(cursor, updated_since)
        users = [msgspec.structs.replace(each, attributes=each.attributes | {"properties": {}}) for each in page.users]
        return msgspec.structs.replace(page, users=tuple(users))


class ReadsTooLate(KlaviyoProfiles):
    """Leaves out users that changed at the given time."""

    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        later = None if updated_since is None else updated_since + timedelta(seconds=2)
        return await super().users(cursor, later)


class TakesAnyCursor(KlaviyoProfiles):
    async def users(self, cursor: str, updated_since: datetime | None = None) -> UsersPage:
        try:
            return await super().users(cursor, updated_since)
        except HeadwaterError:
            return await super().users("", updated_since)


@dataclass(frozen=True)
class Fault:
    """A faulty connector, and the test that finds it."""

    faulty: type[KlaviyoProfiles]
    find: Callable[[pytest.MonkeyPatch], None]


def write(patch: pytest.MonkeyPatch) -> None:
    Sink().test_each_user_is_written_once_or_rejected(SEED, patch)


def read(patch: pytest.MonkeyPatch) -> None:
    Source().test_each_user_is_read_once(SEED, patch)


FAULTS = [
    Fault(ReportsSuccess, write),
    Fault(RejectsTooMuch, write),
    Fault(MixesResults, write),
    Fault(Forgets, write),
    Fault(IgnoresRates, write),
    Fault(CreatesAgain, write),
    Fault(SendsUnknownAttributes, write),
    Fault(UpdatesByAttributes, Sink().test_a_user_that_does_not_exist_is_not_created_by_an_update),
    Fault(ClearsOthers, Sink().test_an_update_changes_only_its_attributes),
    Fault(Shows, Sink().test_refused_credentials_reject_no_user),
    Fault(EndsEarly, read),
    Fault(ReadsTwice, read),
    Fault(LosesValues, read),
    Fault(ReadsTooLate, Source().test_users_that_changed_are_read),
    Fault(TakesAnyCursor, lambda patch: Source().test_another_cursor_is_refused("x", patch)),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.faulty.__name__)
def test_a_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    connector = CONNECTORS["klaviyo"]
    engine = msgspec.structs.replace(connector.engine, user_sink=fault.faulty, user_source=fault.faulty)
    changed = msgspec.structs.replace(connector, engine=engine)
    monkeypatch.setattr(vendor_users, "CONNECTORS", {**CONNECTORS, "klaviyo": changed})
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        fault.find(monkeypatch)
