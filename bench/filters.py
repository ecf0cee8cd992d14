"""Compiled filters against handwritten predicates for the same conditions, over the same records."""

import time
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec

from headwater.filters import Predicate, check_filter, compile_filter, parse_text
from headwater.schemas import EVENT_SCHEMA, Json, ObjectType, Property, Schema, parse_type

USER: Schema = ObjectType(
    tuple(
        Property(name, parse_type(text), read_optional=True)
        for name, text in (
            ("country", '{"kind":"string"}'),
            ("age", '{"kind":"int","bitSize":16}'),
            ("email", '{"kind":"string"}'),
        )
    )
)
COUNT = 20_000

_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def _user_by_hand(user: Mapping[str, Any]) -> bool:
    if user.get("country") not in ("IT", "FR"):
        return False
    age = user.get("age")
    if age is None or age < 18:
        return False
    email = user.get("email")
    return email is not None and email.endswith("@example.com")


def _event_by_hand(event: Mapping[str, Any]) -> bool:
    if event.get("type") != "track" or event.get("event") != "Order Completed":
        return False
    properties = event.get("properties")
    if properties is None:
        return False
    members = _decode(properties.text)
    total = members.get("total") if isinstance(members, dict) else None
    return isinstance(total, int | Decimal) and not isinstance(total, bool) and total >= 20


def _users() -> list[dict[str, Any]]:
    countries = ("IT", "FR", "DE")
    return [{"country": countries[number % 3], "age": number % 60, "email": f"u{number}@example.com"}
            for number in range(COUNT)]  # fmt: skip


def _events() -> list[dict[str, Any]]:
    return [
        {
            "type": "track",
            "event": "Order Completed" if number % 4 else "Product Viewed",
            "properties": Json(f'{{"orderId":"o{number}","total":{number % 50}.50,"currency":"EUR","products":[1,2]}}'),
        }
        for number in range(COUNT)
    ]


CASES: dict[str, tuple[str, Schema, Predicate, Callable[[], list[dict[str, Any]]]]] = {
    "users": (
        'country is one of "IT", "FR" and age is greater than or equal to 18 and email ends with "@example.com"',
        USER,
        _user_by_hand,
        _users,
    ),
    "events, one condition inside JSON": (
        'type is "track" and event is "Order Completed" and properties.total is greater than or equal to 20',
        EVENT_SCHEMA,
        _event_by_hand,
        _events,
    ),
}


def measure(seconds: float) -> dict[str, tuple[float, float]]:
    """Return records per second by case: of the compiled filter and of the handwritten one, measured in turns."""
    rates: dict[str, tuple[float, float]] = {}
    for name, (text, schema, by_hand, make) in CASES.items():
        filter = parse_text(text)
        assert filter is not None
        compiled = compile_filter(check_filter(filter, schema, role="Source", target="User"))
        records = make()
        assert [compiled(record) for record in records] == [by_hand(record) for record in records]
        ours = theirs = float("inf")
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            ours = min(ours, _time(compiled, records))
            theirs = min(theirs, _time(by_hand, records))
        rates[name] = (COUNT / ours, COUNT / theirs)
    return rates


def _time(predicate: Predicate, records: list[dict[str, Any]]) -> float:
    began = time.perf_counter()
    for record in records:
        predicate(record)
    return time.perf_counter() - began
