"""Stripe's connector against Stripe's server."""

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, ClassVar

from headwater.connectors.stripe.schemas import WRITABLE_SCHEMA
from headwater.schemas import Codec, DateTime, Record, all_optional
from tests.connectors.conformance.vendor_users import VendorUserSinkConformance, VendorUserSourceConformance
from tests.connectors.vendors.server import Plan, VendorServer
from tests.connectors.vendors.stripe import KEY, StripeServer
from tests.virtualtime import START

_CODEC = Codec(all_optional(WRITABLE_SCHEMA))
ADDRESS = dict.fromkeys(("line1", "line2", "state", "country"))


class TestUserSink(VendorUserSinkConformance):
    CODE = "stripe"
    SETTINGS: ClassVar = {"apiKey": KEY}
    SECRETS = (KEY,)
    CHANGED = "name"

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return StripeServer(plan, now)

    def attributes(self, number: int, version: int) -> Record:
        return {
            "email": self.refused_key(number),
            "name": f"Name {version}",
            "phone": None,
            "address": {**ADDRESS, "city": "Oslo", "postal_code": f"{version:04d}"},
            "preferred_locales": ["nb", "en"],
            "metadata": {"version": str(version), "Plan & price": "pro+ = 9,50 €"},
        }

    def refused_key(self, number: int) -> str:
        return f"user-{number}@example.com"

    def find(self, server: Any, number: int) -> list[str]:
        found: list[str] = server.find(self.refused_key(number))
        return found

    def has(self, server: Any, id_: str, attributes: Record) -> bool:
        return bool(json.loads(_CODEC.encode(attributes)).items() <= server.customers[id_].items())

    def missing_id(self) -> str:
        return "cus_NffrFeUfNV2Hib"


class TestUserSource(VendorUserSourceConformance):
    CODE = "stripe"
    SETTINGS: ClassVar = {"apiKey": KEY}
    SECRETS = (KEY,)

    def make_server(self, plan: Plan, now: Callable[[], float]) -> VendorServer:
        return StripeServer(plan, now)

    def fill(self, server: Any, count: int) -> Sequence[str]:
        return [
            server.add(
                START + timedelta(seconds=number),
                email=f"user-{number}@example.com",
                name="Ada",
                address={**ADDRESS, "city": "Oslo", "postal_code": "0150"},
                metadata={"plan": "free", "Favourite colour": "red"},
                preferred_locales=["nb"],
                currency="nok",
                balance=-(2**40),
            )
            for number in range(count)
        ]

    def expected(self, number: int) -> Record:
        return {
            "email": f"user-{number}@example.com",
            "name": "Ada",
            "phone": None,
            "address": {**ADDRESS, "city": "Oslo", "postal_code": "0150"},
            "created": DateTime.of(START + timedelta(seconds=number)),
            "metadata": {"plan": "free", "Favourite colour": "red"},
            "preferred_locales": ["nb"],
            "currency": "nok",
            "balance": -(2**40),
            "livemode": False,
        }
