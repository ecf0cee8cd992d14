"""Identities of a connection over gRPC."""

import json
from typing import Any

import pytest

from headwater.catalog import Connection
from headwater.v1 import identities_pb2 as pb
from tests.api.conftest import Api
from tests.harness import add_source, add_workspace

pytestmark = pytest.mark.both_databases

LIST = "IdentityService/ListConnectionIdentities"


async def seen(api: Api, source: Connection, *people: dict[str, Any]) -> None:
    events = [
        {"type": "page", "timestamp": f"2026-11-22T00:00:{second:02}Z", "originalTimestamp": "2026-11-22", **person}
        for second, person in enumerate(people)
    ]
    await api.harness.send(source, json.dumps({"batch": events}).encode())
    await api.harness.process_log()


async def test_the_most_recently_seen_comes_first(api: Api, source: Connection) -> None:
    await seen(api, source, {"userId": "u", "anonymousId": "a"}, {"anonymousId": "b"}, {"userId": "v"})
    response = await api.call(LIST, pb.ListConnectionIdentitiesRequest(id=source.id))
    pipeline = next(pipeline.id for pipeline in source.pipelines if pipeline.target == "User")
    assert response.total == 3
    assert [(each.user_id, each.HasField("user_id"), list(each.anonymous_ids)) for each in response.identities] == [
        ("v", True, []),
        ("", False, ["b"]),
        ("u", True, ["a"]),
    ]
    assert {(each.connection, each.pipeline) for each in response.identities} == {(source.id, pipeline)}
    assert [each.updated_at.ToJsonString() for each in response.identities] == [
        f"2026-11-22T00:00:0{second}Z" for second in (2, 1, 0)
    ]


async def test_pages_list_every_item_once(api: Api, source: Connection) -> None:
    await seen(api, source, *({"userId": f"u{number}"} for number in range(5)))
    found = []
    for first in range(0, 6, 2):
        page = await api.call(LIST, pb.ListConnectionIdentitiesRequest(id=source.id, first=first, limit=2))
        assert page.total == 5
        found += [identity.user_id for identity in page.identities]
    assert found == ["u4", "u3", "u2", "u1", "u0"]


@pytest.mark.parametrize(
    ("request_", "status", "reason", "field"),
    [
        ({"id": 0}, "INVALID_ARGUMENT", "BadRequest", "id"),
        ({"id": -5}, "INVALID_ARGUMENT", "BadRequest", "id"),
        ({"id": 5}, "NOT_FOUND", "NotFound", "id"),
        ({"first": -1}, "INVALID_ARGUMENT", "BadRequest", "first"),
        ({"limit": 0}, "INVALID_ARGUMENT", "BadRequest", "limit"),
        ({"limit": 1001}, "INVALID_ARGUMENT", "BadRequest", "limit"),
    ],
    ids=str,
)
async def test_bad_requests_are_rejected(
    api: Api, source: Connection, request_: dict[str, Any], status: str, reason: str, field: str
) -> None:
    failed = await api.call(LIST, pb.ListConnectionIdentitiesRequest(**{"id": source.id, **request_}))
    assert (failed.status, failed.reason, failed.metadata) == (status, reason, (("field", field),))


async def test_a_connection_of_another_workspace_does_not_exist(api: Api) -> None:
    other = await add_source(api.harness.catalog, (await add_workspace(api.harness.catalog)).id)
    failed = await api.call(LIST, pb.ListConnectionIdentitiesRequest(id=other.id))
    assert (failed.status, failed.message) == ("NOT_FOUND", f"connection {other.id} does not exist")
