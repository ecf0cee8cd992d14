"""Explanations of filters: the deciding condition and the shown values."""

from typing import Any

import pytest

from headwater.filters import check_filter, explain, parse_text
from headwater.filters.explain import MAX_SHOWN
from headwater.schemas import EVENT_SCHEMA, Codec, IntType, Json, ObjectType, Property

EVENT: dict[str, Any] = Codec(EVENT_SCHEMA).decode(
    """{"connectionId":7,"anonymousId":"a","event":"Order Completed","messageId":"m","type":"track","traits":{},
        "properties":{"total":49.90,"products":[{"sku":"x"}],"note":null,"who":{"a":"\\ud83d\\ude00"}},
        "context":{"page":{"url":"https://example.com/"},"session":{"id":"9007199254740993"},"consents":{"b":true}},
        "receivedAt":"2024-02-29T10:00:00Z","sentAt":"2024-02-29T10:00:00.5Z",
        "originalTimestamp":"2024-02-29T10:00:00Z","timestamp":"2024-02-29T10:00:00Z"}"""
)


def explained(source: str, event: dict[str, Any] = EVENT) -> tuple[bool, list[tuple[bool | None, bool, str | None]]]:
    filter = parse_text(source)
    assert filter is not None
    explanation = explain(check_filter(filter, EVENT_SCHEMA, role="Source", target="Event"), event)
    return explanation.matched, [(seen.result, seen.decided, seen.value) for seen in explanation.conditions]


@pytest.mark.parametrize(
    ("source", "matched", "conditions"),
    [
        ('type is "track"', True, [(True, True, '"track"')]),
        ('type is "page"', False, [(False, True, '"track"')]),
        (
            'type is "track" and event is "x" and userId exists',
            False,
            [(True, False, '"track"'), (False, True, '"Order Completed"'), (None, False, None)],
        ),
        ('type is "track" and event exists', True, [(True, False, '"track"'), (True, True, '"Order Completed"')]),
        (
            'type is "page" or event exists or userId exists',
            True,
            [(False, False, '"track"'), (True, True, '"Order Completed"'), (None, False, None)],
        ),
        ('type is "page" or userId exists', False, [(False, False, '"track"'), (False, True, None)]),
    ],
)
def test_which_condition_decided(
    source: str, matched: bool, conditions: list[tuple[bool | None, bool, str | None]]
) -> None:
    assert explained(source) == (matched, conditions)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("properties.total is 1", "49.90"),
        ("properties.products is empty", '[{"sku":"x"}]'),
        ("properties.note is null", "null"),
        ("properties.nothing is null", None),
        ("properties.total.more exists", None),
        ("properties.who exists", '{"a":"😀"}'),
        ("context.page.url exists", '"https://example.com/"'),
        ("context.session.id exists", '"9007199254740993"'),
        ("context.app.name exists", None),
        ("context.page exists", '{"url":"https://example.com/"}'),
        ("context.consents is empty", '{"b":true}'),
        ("sentAt is after 2024-01-01", '"2024-02-29T10:00:00.500Z"'),
        ("traits is empty", "{}"),
    ],
)
def test_shown_values(source: str, value: str | None) -> None:
    assert explained(source)[1][0][2] == value


def test_conditions_are_shown_as_they_were_understood() -> None:
    filter = parse_text("timestamp is after '2024-02-29T11:00:00.500+01:00'")
    assert filter is not None
    outcome = explain(check_filter(filter, EVENT_SCHEMA, role="Source", target="Event"), EVENT).conditions[0]
    assert outcome.condition.values == ("2024-02-29T10:00:00.5",)


def test_long_values_are_cut() -> None:
    event = EVENT | {"properties": Json.of({"a": "x" * 5_000})}
    for source in ("properties exists", "properties.a exists"):
        value = explained(source, event)[1][0][2]
        assert value is not None and len(value) == MAX_SHOWN + 1 and value.endswith("…")


def test_null_is_shown() -> None:
    schema = ObjectType((Property("n", IntType(8), nullable=True),))
    filter = parse_text("n is null")
    assert filter is not None
    outcome = explain(check_filter(filter, schema, role="Source", target="User"), {"n": None}).conditions[0]
    assert (outcome.result, outcome.value) == (True, "null")


def test_a_lone_surrogate_is_shown_escaped() -> None:
    event = EVENT | {"properties": Json('{"a":"\\ud800"}')}
    assert explained("properties.a exists", event) == (True, [(True, True, '"\\ud800"')])
