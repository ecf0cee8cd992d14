"""Values of event types: numbers that events have as text."""

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.connectors.contract import EventRejected, EventType
from headwater.connectors.eventvalues import NUMBER, EventValues, read_number
from headwater.schemas import Json, JsonType, ObjectType, Property, StringType
from tests.connectors.conformance.event_sink import make_event

SCHEMA = ObjectType((Property("name", StringType()), Property("value", NUMBER), Property("other", JsonType())))
TYPE = EventType(id="order", name="Order", description="An order", filter="", schema=SCHEMA)
VALUES = EventValues([TYPE])


def document(**values: Any) -> dict[str, Any]:
    given = {name: Json(each) for name, each in values.items()}
    return VALUES.document(make_event(1, event_type="order", values=given))


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("19.99", 19.99),
        ("7", 7),
        ('"19.99"', 19.99),
        ('" 7 "', 7),
        ('"-1.5e3"', -1500.0),
        ('"+3"', 3),
        ('"007"', 7),
        ("null", None),
        ('""', None),
        ('"  "', None),
    ],
)
def test_a_number_may_be_a_text(text: str, number: float | None) -> None:
    found = document(value=text)
    assert found == ({} if number is None else {"value": number})
    assert type(found.get("value")) is type(number)


@pytest.mark.parametrize(
    "text", ['"€5"', '"1,50"', '"1 000"', '"NaN"', '"1e999"', '"0x10"', '"१"', "true", "{}", "[1]", '"%s"' % ("9" * 50)]
)
def test_another_value_is_refused_with_its_name(text: str) -> None:
    with pytest.raises(EventRejected, match=r"^value is .*, which is not a number$") as refused:
        document(value=text)
    assert refused.value.reason == "InvalidNumber" and len(refused.value.message) < 150


@pytest.mark.parametrize("text", ["1e999", '"\\ud800"'])
def test_a_value_without_a_python_value_is_refused(text: str) -> None:
    with pytest.raises(EventRejected) as refused:
        document(value=text)
    assert refused.value.reason == "InvalidValue"


def test_other_json_is_left_as_it_is() -> None:
    assert bytes(document(other='"19.99"')["other"]) == b'"19.99"'


@given(st.integers() | st.floats(allow_nan=False, allow_infinity=False))
def test_the_text_of_a_number_is_the_number(number: float) -> None:
    text = json.dumps(number)
    if len(text) <= 25:
        read = read_number("value", text)
        assert read is not None and math.isclose(read, number)
