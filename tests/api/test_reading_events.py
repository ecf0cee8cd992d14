"""Conditions and pages of ListEvents, and CountEvents, in both packages."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from headwater.catalog import Connection
from headwater.rest.v1 import events_pb2 as rest_pb
from headwater.v1 import events_pb2 as pb
from headwater.v1 import filters_pb2
from headwater.warehouse import Capabilities
from tests.api.conftest import Api, CallError
from tests.harness import add_source

pytestmark = pytest.mark.both_databases

LIST, LIST_JSON = "EventService/ListEvents", "rest.EventService/ListEvents"
COUNT, COUNT_JSON = "EventService/CountEvents", "rest.EventService/CountEvents"
START = 1_700_000_000
"""2023-11-14T22:13:20Z."""


def at(number: int) -> str:
    return datetime.fromtimestamp(START + number, UTC).isoformat()


@pytest.fixture
async def other(api: Api) -> Connection:
    return await add_source(api.harness.catalog, api.harness.workspace)


@pytest.fixture
async def stored(api: Api, source: Connection, other: Connection) -> None:
    """Store twelve events, an hour apart: the even ones have names, those from 10 on come from another source."""
    for number in range(12):
        connection = other if number >= 10 else source
        user = f'"userId":"u{number % 3}"' if number % 4 else '"anonymousId":"a"'
        kind = f'"type":"track","event":"E{number % 3}"' if number % 2 == 0 else '"type":"page"'
        event = (
            f'{{"messageId":"m{number}","timestamp":"{at(3600 * number)}",{kind},{user},"properties":{{"n":{number}}}}}'
        )
        await api.harness.send(connection, f'{{"batch":[{event}]}}'.encode())
    await api.harness.process_log()


def typed(request: type[Any], source: Connection, fields: dict[str, Any]) -> Any:
    """Convert the fields of a REST request into the typed request."""
    fields = dict(fields)
    if "connection" in fields:
        fields["connection_ids"] = fields.pop("connection")
    if "filter" in fields:
        document = json.loads(fields["filter"])
        conditions = [filters_pb2.FilterCondition(**condition) for condition in document["conditions"]]
        fields["filter"] = filters_pb2.Filter(logical=document["logical"], conditions=conditions)
    for name in ("since", "until"):
        if name in fields:
            moment = Timestamp()
            moment.FromJsonString(fields[name])
            fields[name] = moment
    return request(**fields)


def condition(property_: str, operator: str, *values: str) -> str:
    conditions = [{"property": property_, "operator": operator, "values": list(values)}]
    return json.dumps({"logical": "and", "conditions": conditions})


CONDITIONS: list[tuple[dict[str, Any], set[int]]] = [
    ({}, set(range(12))),
    ({"type": "page"}, {1, 3, 5, 7, 9, 11}),
    ({"event": "E1"}, {4, 10}),
    ({"user_id": "u1"}, {1, 7, 10}),
    ({"anonymous_id": "a"}, {0, 4, 8}),
    ({"since": at(3600 * 3), "until": at(3600 * 5)}, {3, 4}),
    ({"since": at(3600 * 30)}, set()),
    ({"connection": "SOURCE"}, set(range(10))),
    ({"connection": "OTHER", "type": "track"}, {10}),
    ({"connection": "BOTH", "type": "track", "event": "E1"}, {4, 10}),
    ({"connection": "NONE"}, set()),
    ({"filter": condition("properties.n", "is greater than", "8")}, {9, 10, 11}),
    ({"filter": condition("event", "is", "E0"), "user_id": "u0"}, {6}),
]


@pytest.mark.parametrize(("fields", "numbers"), CONDITIONS, ids=[str(fields)[:70] for fields, _ in CONDITIONS])
async def test_conditions_select_events(
    api: Api, source: Connection, other: Connection, stored: None, fields: dict[str, Any], numbers: set[int]
) -> None:
    ids = {"SOURCE": [source.id], "OTHER": [other.id], "BOTH": [other.id, source.id], "NONE": [7]}
    fields = {**fields, **({"connection": ids[fields["connection"]]} if "connection" in fields else {})}
    expected = [f"m{number}" for number in sorted(numbers, reverse=True)]
    raw = await api.call(LIST_JSON, rest_pb.ListEventsRequest(**fields))
    assert not isinstance(raw, CallError), raw
    assert [event["messageId"] for event in json.loads(raw.data)["events"]] == expected
    response = await api.call(LIST, typed(pb.ListEventsRequest, source, fields))
    assert [event.message_id for event in response.events] == expected
    for method, request in (
        (COUNT_JSON, rest_pb.CountEventsRequest(**fields)),
        (COUNT, typed(pb.CountEventsRequest, source, fields)),
    ):
        counted = await api.call(method, request)
        assert sum(each.count for each in counted.counts) == len(numbers)


async def test_pages_do_not_shift_while_events_arrive(api: Api, source: Connection, stored: None) -> None:
    found: list[str] = []
    token = ""
    for number in range(100, 120):
        raw = await api.call(LIST_JSON, rest_pb.ListEventsRequest(limit=5, page_token=token, properties=["messageId"]))
        page = json.loads(raw.data)
        found += [event["messageId"] for event in page["events"]]
        token = page["nextPageToken"]
        if not token:
            break
        moment = at(90_000 + number)
        late = f'{{"batch":[{{"messageId":"m{number}","type":"page","userId":"u","timestamp":"{moment}"}}]}}'
        await api.harness.send(source, late.encode())
        await api.harness.process_log()
    assert found == [f"m{number}" for number in range(11, -1, -1)]


async def test_typed_pages_list_every_event_once(api: Api, stored: None) -> None:
    found: list[str] = []
    request = pb.ListEventsRequest(limit=5, ascending=True, order="receivedAt", first=2)
    while True:
        response = await api.call(LIST, request)
        found += [event.message_id for event in response.events]
        if not response.next_page_token:
            break
        request = pb.ListEventsRequest(limit=5, ascending=True, order="receivedAt", page_token=response.next_page_token)
    assert found == [f"m{number}" for number in range(2, 12)]


async def test_counts_by_name_type_source_and_day(
    api: Api, source: Connection, other: Connection, stored: None
) -> None:
    async def counts(**fields: Any) -> list[tuple[Any, ...]]:
        response = await api.call(COUNT_JSON, rest_pb.CountEventsRequest(**fields))
        assert not isinstance(response, CallError), response
        typed_answer = await api.call(COUNT, typed(pb.CountEventsRequest, source, fields))
        assert response == typed_answer
        return [
            (
                each.count,
                each.start_time.ToJsonString() if each.HasField("start_time") else None,
                each.event if each.HasField("event") else None,
                each.type if each.HasField("type") else None,
                each.connection_id if each.HasField("connection_id") else None,
            )
            for each in response.counts
        ]

    assert await counts() == [(12, None, None, None, None)]
    by_type = await counts(by=["type"])
    assert sorted(by_type, key=str) == [(6, None, None, "page", None), (6, None, None, "track", None)]
    assert await counts(by=["connection"]) == [(10, None, None, None, source.id), (2, None, None, None, other.id)]
    assert await counts(interval="day") == [
        (10, "2023-11-15T00:00:00Z", None, None, None),
        (2, "2023-11-14T00:00:00Z", None, None, None),
    ]
    by_name = await counts(by=["event"], type="track", interval="day", until="2023-11-15T00:00:00Z")
    assert by_name == [(1, "2023-11-14T00:00:00Z", "E0", None, None)]
    assert len(await counts(interval="hour", limit=3)) == 3


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"by": ["userId"]}, "by"),
        ({"interval": "week"}, "interval"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
    ],
    ids=str,
)
async def test_invalid_counts_are_rejected(api: Api, fields: dict[str, Any], field: str) -> None:
    for method, request in (
        (COUNT, pb.CountEventsRequest(**fields)),
        (COUNT_JSON, rest_pb.CountEventsRequest(**fields)),
    ):
        failed = await api.call(method, request)
        assert (failed.reason, dict(failed.metadata)["field"]) == ("BadRequest", field)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"type": "nonsense"}, "type"),
        ({"event": "a\0"}, "event"),
        ({"user_id": "\0"}, "userId"),
        ({"since": "yesterday"}, "since"),
        ({"until": "2026-13-01T00:00:00Z"}, "until"),
        ({"order": "userId"}, "order"),
        ({"page_token": "x"}, "pageToken"),
        ({"filter": "{"}, "filter"),
        ({"filter": "{}"}, "filter"),
        ({"filter": condition("nonsense", "is", "1")}, "filter.conditions[0].property"),
        ({"filter": condition("event", "is nonsense", "1")}, "filter.conditions[0].operator"),
    ],
    ids=str,
)
async def test_invalid_conditions_are_rejected(api: Api, fields: dict[str, Any], field: str) -> None:
    failed = await api.call(LIST_JSON, rest_pb.ListEventsRequest(**fields))
    assert (failed.status, failed.reason) == ("INVALID_ARGUMENT", "BadRequest")
    assert dict(failed.metadata)["field"] == field
    assert failed.http is None


async def test_a_typed_time_out_of_range_is_rejected(api: Api) -> None:
    failed = await api.call(LIST, pb.ListEventsRequest(since=Timestamp(seconds=2**62)))
    assert (failed.reason, dict(failed.metadata)["field"]) == ("BadRequest", "since")


async def test_a_filter_may_be_null(api: Api, stored: None) -> None:
    raw = await api.call(LIST_JSON, rest_pb.ListEventsRequest(filter="null", limit=1))
    assert json.loads(raw.data)["events"][0]["messageId"] == "m11"


async def test_an_optional_part_that_the_warehouse_lacks_is_501(
    api: Api, source: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    limited = Capabilities(filters=False, counts=False)
    monkeypatch.setattr(type(api.harness.warehouse), "capabilities", limited)
    condition = '{"logical":"and","conditions":[{"property":"userId","operator":"is","values":["u1"]}]}'
    request = typed(pb.ListEventsRequest, source, {"filter": condition})
    for call, asked in ((LIST, request), (COUNT, pb.CountEventsRequest())):
        failed = await api.call(call, asked)
        assert isinstance(failed, CallError)
        assert (failed.status, failed.reason) == ("UNIMPLEMENTED", "NotImplemented")
    assert not (await api.call(LIST, pb.ListEventsRequest())).events
