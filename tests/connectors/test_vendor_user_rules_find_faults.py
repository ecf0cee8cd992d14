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
    UNEXPECTED_RESPONSE,
    BatchLimits,
    HttpRequest,
    HttpResponse,
    ItemResult,
    Outcome,
    UserSink,
    UserWrite,
)
from headwater.connectors.customerio.users import CustomerIoPeople
from headwater.connectors.hubspot.users import HubSpotContacts
from headwater.connectors.mailchimp.users import MailchimpContacts
from headwater.connectors.mailerlite.users import MailerLiteSubscribers
from headwater.connectors.mixpanel.users import MixpanelUsers
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.salesforce.api import Error
from headwater.connectors.salesforce.records import SalesforceRecords
from headwater.connectors.stripe.users import StripeCustomers
from headwater.connectors.users import write_each
from headwater.schemas import Codec, all_optional
from tests.connectors.braze.test_vendor import TestUserSink as Braze
from tests.connectors.conformance import vendor_users
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance
from tests.connectors.customerio.test_vendor import TestUserSink as CustomerIo
from tests.connectors.hubspot.test_vendor import TestUserSink as HubSpot
from tests.connectors.mailchimp.test_vendor import TestUserSink as Mailchimp
from tests.connectors.mailerlite.test_vendor import TestUserSink as MailerLite
from tests.connectors.mixpanel.test_vendor import TestUserSink as Mixpanel
from tests.connectors.salesforce.test_vendor import TestUserSink as Salesforce
from tests.connectors.stripe.test_vendor import TestUserSink as Stripe

SEEDS = (2, 3, 4)
"""Plans to try. With the first, the response to a request that creates contacts of Mailchimp is lost, unless a busy
machine changes the order of requests."""


class ReadsResultsInOrder(HubSpotContacts):
    """Takes the results, and then the errors, for those of the contacts in their order."""

    async def _write(self, is_update: bool, inputs: dict[int, dict[str, Any]]) -> dict[int, ItemResult]:
        results = (await super()._write(is_update, inputs)).values()
        return dict(zip(inputs, sorted(results, key=lambda each: each.outcome is not Outcome.DELIVERED), strict=True))


class TakesSilenceForSuccess(HubSpotContacts):
    """Takes contacts that a response does not name for written ones."""

    async def write_users(self, users: Sequence[UserWrite]) -> Sequence[ItemResult]:
        return [
            ItemResult(outcome=Outcome.DELIVERED, id=str(number)) if each.reason == UNEXPECTED_RESPONSE else each
            for number, each in enumerate(await super().write_users(users))
        ]


class ClearsWithNull(HubSpotContacts):
    """Clears properties with null, which HubSpot does not take for a text."""

    def request(self, is_update: bool, inputs: Sequence[dict[str, Any]]) -> HttpRequest:
        request = super().request(is_update, inputs)
        return msgspec.structs.replace(request, body=request.body.replace(b':""', b":null"))


class MixesResults(SalesforceRecords):
    """Reads the results of records in another order."""

    def _results(self, response: HttpResponse, count: int) -> list[ItemResult] | None:
        results = super()._results(response, count)
        return None if results is None else results[::-1]


class RollsBack(SalesforceRecords):
    """Writes all records of a request or none."""

    def request_body(self, records: Sequence[dict[str, Any]]) -> bytes:
        return super().request_body(records).replace(b'"allOrNone":false', b'"allOrNone":true')


class RejectsLockedRows(SalesforceRecords):
    """Takes a temporary error of a record for a permanent one."""

    def _is_temporary(self, error: Error) -> bool:
        return False


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


class SendsEachAlone(MailerLiteSubscribers):
    """Creates each subscriber with a request of its own, and ignores the rates."""

    write_rates = ()
    write_limits = BatchLimits(max_events=1)


class MakesImports(MailerLiteSubscribers):
    """Sends batches with nothing but new subscribers."""

    def batch_request(self, subscribers: Sequence[tuple[str, dict[str, Any]]]) -> HttpRequest:
        request = super().batch_request(subscribers)
        filler = b'{"method":"POST","path":"api/subscribers","body":{"email":"filler@example.com"}}'
        body = request.body.replace(b'{"method":"GET","path":"api/fields"}', filler)
        return msgspec.structs.replace(request, body=body)


class MixesSubscribers(MailerLiteSubscribers):
    """Returns results in another order."""

    def _read_batch(
        self, response: HttpResponse, subscribers: Sequence[tuple[str, dict[str, Any]]]
    ) -> list[ItemResult]:
        found = super()._read_batch(response, subscribers)
        return [*found[1:], found[0]]


class ChangesKeys(StripeCustomers):
    """Has another idempotency key in each attempt."""

    def request(self, id_: str, attributes: dict[str, Any], key: str) -> HttpRequest:
        return super().request(id_, attributes, uuid4().hex)


class SendsJson(StripeCustomers):
    """Sends the media type of JSON with a form."""

    def request(self, id_: str, attributes: dict[str, Any], key: str) -> HttpRequest:
        request = super().request(id_, attributes, key)
        return msgspec.structs.replace(request, headers={**request.headers, "content-type": "application/json"})


class SharesKeys(StripeCustomers):
    """Has one idempotency key for all customers."""

    def request(self, id_: str, attributes: dict[str, Any], key: str) -> HttpRequest:
        return super().request(id_, attributes, "1" * 32)


class IgnoresRates(StripeCustomers):
    write_rates = ()
    interval_seconds = 0.0


class ReversesResults(BrazeUsers):
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
    Fault(ReversesResults, Braze),
    Fault(TakesPartsForSuccess, CustomerIo),
    Fault(ReadsResultsInOrder, HubSpot),
    Fault(TakesSilenceForSuccess, HubSpot),
    Fault(ClearsWithNull, HubSpot),
    Fault(MixesResults, Salesforce),
    Fault(RollsBack, Salesforce),
    Fault(RejectsLockedRows, Salesforce),
    Fault(SendsJson, Stripe),
    Fault(OverwritesStatus, Mailchimp),
    Fault(OpensConnections, Mailchimp),
    Fault(SendsNull, Mailchimp),
    Fault(SendsEachAlone, MailerLite),
    Fault(MakesImports, MailerLite),
    Fault(MixesSubscribers, MailerLite),
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
