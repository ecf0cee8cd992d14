"""The servers of vendors find faults in the writing of users against the rules that only these vendors have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from headwater.connectors.braze.users import BrazeUsers
from headwater.connectors.contract import (
    DELIVERED,
    HttpRequest,
    ItemResult,
    Outcome,
    UserSink,
    UserWrite,
    spread,
)
from headwater.connectors.customerio.users import CustomerIoPeople
from headwater.connectors.mailchimp.users import MailchimpContacts
from headwater.connectors.mailerlite.users import MailerLiteSubscribers
from headwater.connectors.mixpanel.users import MixpanelUsers
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.stripe.users import StripeCustomers
from headwater.connectors.users import write_each
from headwater.schemas import Codec, all_optional
from tests.connectors.braze.test_vendor import TestUserSink as Braze
from tests.connectors.conformance import vendor_users
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance
from tests.connectors.customerio.test_vendor import TestUserSink as CustomerIo
from tests.connectors.mailchimp.test_vendor import TestUserSink as Mailchimp
from tests.connectors.mailerlite.test_vendor import TestUserSink as MailerLite
from tests.connectors.mixpanel.test_vendor import TestUserSink as Mixpanel
from tests.connectors.stripe.test_vendor import TestUserSink as Stripe

SEEDS = (2, 3, 4)
"""Plans to try. With the first, the response to a request that creates contacts of Mailchimp is lost, unless a busy
machine changes the order of requests."""


class OverwritesStatus(MailchimpContacts):
    """Changes the status of contacts that exist."""

    def create_request(self, members: Sequence[dict[str, Any]]) -> HttpRequest:
        request = super().create_request(members)
        return msgspec.structs.replace(request, body=request.body.replace(b'existing":false', b'existing":true'))


class OpensConnections(MailchimpContacts):
    """Updates all contacts of a call at the same time."""

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        self._writable = Codec(all_optional(await self.writable_schema()))
        return await (write_each(users, self._update) if users[0].id else super().write_users(users))


class SendsNull(MailchimpContacts):
    """Clears merge fields with null."""

    def update_request(self, id_: str, member: dict[str, Any]) -> HttpRequest:
        fields = {tag: value or None for tag, value in member.get("merge_fields", {}).items()}
        return super().update_request(id_, {**member, "merge_fields": fields})


class CountsBatches(MailerLiteSubscribers):
    """Counts a call that creates 25 subscribers as one request."""

    write_rates = (spread(120, 60, burst=25),)


class ChangesKeys(StripeCustomers):
    """Has another idempotency key in each attempt."""

    def request(self, id_: str, attributes: dict[str, Any], key: str) -> HttpRequest:
        return super().request(id_, attributes, uuid4().hex)


class SharesKeys(StripeCustomers):
    """Has one idempotency key for all customers."""

    def request(self, id_: str, attributes: dict[str, Any], key: str) -> HttpRequest:
        return super().request(id_, attributes, "1" * 32)


class IgnoresRates(StripeCustomers):
    write_rates = ()


class MixesResults(BrazeUsers):
    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        return list(reversed(await super().write_users(users)))


class TakesPartsForSuccess(CustomerIoPeople):
    """Takes a person that is refused alone for one that is written."""

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        results = await super().write_users(users)
        return [
            ItemResult(outcome=Outcome.DELIVERED, id=f"{user.attributes['id']}") if each.reason else each
            for user, each in zip(users, results, strict=True)
        ]


class TakesOthersForWritten(MixpanelUsers):
    """Takes the other users of a refused request for written, of which Mixpanel has taken none."""

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        results = await super().write_users(users)
        return [msgspec.structs.replace(DELIVERED, id="x") if each.reason == "NotTaken" else each for each in results]


class ShiftsResults(MixpanelUsers):
    """Gives each user the result of another."""

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        results = list(await super().write_users(users))
        return results[1:] + results[:1]


@dataclass(frozen=True)
class Fault:
    """A faulty connector, and the suite that finds it."""

    faulty: type[UserSink]
    suite: type[VendorUserSinkConformance]


FAULTS = [
    Fault(MixesResults, Braze),
    Fault(TakesPartsForSuccess, CustomerIo),
    Fault(OverwritesStatus, Mailchimp),
    Fault(OpensConnections, Mailchimp),
    Fault(SendsNull, Mailchimp),
    Fault(CountsBatches, MailerLite),
    Fault(TakesOthersForWritten, Mixpanel),
    Fault(ShiftsResults, Mixpanel),
    Fault(ChangesKeys, Stripe),
    Fault(SharesKeys, Stripe),
    Fault(IgnoresRates, Stripe),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.faulty.__name__)
def test_a_fault_is_found(fault: Fault, monkeypatch: pytest.MonkeyPatch) -> None:
    code = fault.suite.CODE
    connector = CONNECTORS[code]
    engine = msgspec.structs.replace(connector.engine, user_sink=fault.faulty)
    changed = msgspec.structs.replace(connector, engine=engine)
    monkeypatch.setattr(vendor_users, "CONNECTORS", {**CONNECTORS, code: changed})
    for seed in SEEDS:
        try:
            fault.suite().test_each_user_is_written_once_or_rejected(seed, monkeypatch)
        except (AssertionError, pytest.fail.Exception):
            return
    pytest.fail("no plan finds the fault")
