"""The servers of Mailchimp, MailerLite and Stripe find faults against the rules that only these vendors have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from headwater.connectors.contract import BatchLimits, HttpRequest, HttpResponse, ItemResult, UserSink, UserWrite
from headwater.connectors.mailchimp.users import MailchimpContacts
from headwater.connectors.mailerlite.users import MailerLiteSubscribers
from headwater.connectors.registry import CONNECTORS
from headwater.connectors.stripe.users import StripeCustomers
from headwater.connectors.users import write_each
from headwater.schemas import Codec, all_optional
from tests.connectors.conformance import vendor_users
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance
from tests.connectors.mailchimp.test_vendor import TestUserSink as Mailchimp
from tests.connectors.mailerlite.test_vendor import TestUserSink as MailerLite
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


class MixesResults(MailerLiteSubscribers):
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


class SharesKeys(StripeCustomers):
    """Has one idempotency key for all customers."""

    def request(self, id_: str, attributes: dict[str, Any], key: str) -> HttpRequest:
        return super().request(id_, attributes, "1" * 32)


class IgnoresRates(StripeCustomers):
    write_rates = ()


@dataclass(frozen=True)
class Fault:
    """A faulty connector, and the suite that finds it."""

    faulty: type[UserSink]
    suite: type[VendorUserSinkConformance]


FAULTS = [
    Fault(OverwritesStatus, Mailchimp),
    Fault(OpensConnections, Mailchimp),
    Fault(SendsNull, Mailchimp),
    Fault(SendsEachAlone, MailerLite),
    Fault(MakesImports, MailerLite),
    Fault(MixesResults, MailerLite),
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
