"""Mappings of six properties, and the same in handwritten Python.

Both take the records that the codec returns: values of their kinds, and JSON as text. The handwritten code gives the
same output and checks the same limits, which is asserted before the measurement.
"""

import statistics
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from headwater.schemas import (
    BooleanType,
    DateTime,
    DateTimeType,
    DateType,
    IntType,
    Json,
    JsonType,
    ObjectType,
    Property,
    Record,
    StringType,
)
from headwater.transforms.mapping import CompiledMapping, MappingFailed

BATCH = 1000
ROUNDS = 5

_TEXT = StringType()
IN_SCHEMA = ObjectType(
    (
        Property("id", IntType(64)),
        Property("email", _TEXT),
        Property("firstName", _TEXT),
        Property("lastName", _TEXT, nullable=True),
        Property("plan", StringType(values=("free", "pro"))),
        Property("address", ObjectType((Property("country", _TEXT), Property("city", _TEXT)))),
        Property("created", DateTimeType()),
        Property("traits", JsonType()),
    )
)
OUT_SCHEMA = ObjectType(
    (
        Property("userId", _TEXT),
        Property("email", StringType(max_length=254)),
        Property("name", StringType(max_length=200)),
        Property("country", _TEXT),
        Property("paying", BooleanType()),
        Property("since", DateType()),
        Property("orders", IntType(32)),
        Property("company", StringType(max_length=100), nullable=True),
    )
)
COLUMNS = {
    "userId": "id",
    "email": "lower(trim(email))",
    "name": "firstName ' ' lastName",
    "country": "coalesce(address.country, 'unknown')",
    "paying": "eq(plan, 'pro')",
    "since": "created",
}
TRAITS = {
    "email": "lower(traits.email)",
    "name": "traits.firstName ' ' traits.lastName",
    "country": "coalesce(traits.address.country, 'unknown')",
    "paying": "eq(traits.plan, 'pro')",
    "orders": "traits.orders",
    "company": "traits.company?.name?",
}


def handwritten_columns(record: dict[str, Any]) -> Record:
    """Do the same as COLUMNS."""
    output: Record = {}
    if (number := record.get("id")) is not None:
        output["userId"] = str(number)
    if (email := record.get("email")) is not None:
        email = email.strip().lower()
        if len(email) > 254:
            raise ValueError("email")
        output["email"] = email
    name = f"{record.get('firstName') or ''} {record.get('lastName') or ''}"
    if len(name) > 200:
        raise ValueError("name")
    output["name"] = name
    address = record.get("address")
    country = address.get("country") if address else None
    output["country"] = "unknown" if country is None else country
    if (plan := record.get("plan")) is not None:
        output["paying"] = plan == "pro"
    if (created := record.get("created")) is not None:
        output["since"] = created.date
    return output


_members = msgspec.json.Decoder(dict[str, Raw]).decode
_text = msgspec.json.Decoder(str).decode
_integer = msgspec.json.Decoder(int).decode


def handwritten_traits(record: dict[str, Any]) -> Record:
    """Do the same as TRAITS: decode the object once, and each of its members when it is needed."""
    members = _members(record["traits"].text)
    output: Record = {}
    if (raw := members.get("email")) is not None:
        email = _text(raw).lower()
        if len(email) > 254:
            raise ValueError("email")
        output["email"] = email
    first, last = members.get("firstName"), members.get("lastName")
    name = f"{_text(first) if first is not None else ''} {_text(last) if last is not None else ''}"
    if len(name) > 200:
        raise ValueError("name")
    output["name"] = name
    address = members.get("address")
    country = _members(address).get("country") if address is not None else None
    output["country"] = "unknown" if country is None else _text(country)
    if (plan := members.get("plan")) is not None:
        output["paying"] = _text(plan) == "pro"
    if (orders := members.get("orders")) is not None:
        number = _integer(orders)
        if not -(2**31) <= number < 2**31:
            raise ValueError("orders")
        output["orders"] = number
    output["company"] = None
    if (company := members.get("company")) is not None and bytes(company)[:1] == b"{":
        raw = _members(company).get("name")
        if raw is not None:
            text = _text(raw)
            if len(text) > 100:
                raise ValueError("company")
            output["company"] = text
    return output


def records() -> list[Record]:
    """Return a batch of distinct users."""
    return [_record(number) for number in range(BATCH)]


def _record(number: int) -> Record:
    traits = {
        "email": f"User{number}@Example.com",
        "firstName": "Ada",
        "lastName": f"Lovelace {number}",
        "address": {"country": "IT", "city": "Rome"},
        "plan": "pro" if number % 2 else "free",
        "orders": number,
        "company": {"name": "Engines"} if number % 3 else "none",
        "newsletter": True,
    }
    return {
        "id": 2**40 + number,
        "email": f" User{number}@Example.com",
        "firstName": "Ada",
        "lastName": f"Lovelace {number}" if number % 5 else None,
        "plan": "pro" if number % 2 else "free",
        "address": {"country": "IT", "city": "Rome"},
        "created": DateTime.at(date(2024, 1, 1 + number % 28)),
        "traits": Json.of(traits),
    }


def mapping(folder: Path, seconds: float) -> None:
    """Records/s of a mapping of 6 properties, against the same in handwritten Python."""
    batch = records()
    for name, expressions, handwritten in (
        ("columns", COLUMNS, handwritten_columns),
        ("JSON", TRAITS, handwritten_traits),
    ):
        compiled = CompiledMapping(expressions, IN_SCHEMA, OUT_SCHEMA)
        expected = [handwritten(record) for record in batch]
        assert list(compiled.apply_all(batch)) == expected
        baseline_work = partial(_each, handwritten)
        ratios = []
        for _ in range(ROUNDS):
            baseline = _rate(baseline_work, batch, seconds / 20)
            rate = _rate(partial(_apply_all, compiled), batch, seconds / 20)
            ratios.append(rate / baseline)
        print(
            f"  from {name:8} {rate:9,.0f} records/s   handwritten {baseline:9,.0f}   "
            f"ratio {statistics.median(ratios):.2f} (median; goal 0.3)"
        )


def _apply_all(compiled: CompiledMapping, batch: list[Record]) -> list[Record | MappingFailed]:
    return list(compiled.apply_all(batch))


def _each(handwritten: Callable[[Record], Record], batch: list[Record]) -> list[Record]:
    return [handwritten(record) for record in batch]


def _rate(work: Callable[[list[Record]], object], batch: list[Record], seconds: float) -> float:
    rounds = 0
    began = time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        work(batch)
        rounds += 1
    return rounds * len(batch) / spent
