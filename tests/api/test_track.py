"""The track API: 200 and {} for every call, unless the caller requests strict or verbose responses."""

import asyncio
import base64
import gzip
import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from headwater.base.errors import TooManyRequests, Unavailable
from headwater.catalog import Connection
from headwater.events.protocol import decode_envelope
from tests.api.conftest import REST, Api, CallError
from tests.harness import Harness, add_source

STRICT = ("x-strict-mode", "1")
ROUTES = ["Identify", "Track", "Page", "Screen", "Group", "Alias", "Batch"]
GOOD: dict[str, Any] = {"userId": "u", "event": "e", "groupId": "g", "previousId": "p"}


async def post(api: Api, route: str, body: object, source: Connection | None, *metadata: tuple[str, str]) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    key = (
        ()
        if source is None
        else (("authorization", "Basic " + base64.b64encode(f"{source.event_write_keys[0]}:".encode()).decode()),)
    )
    return await api.call(f"TrackService/{route}", HttpBody(data=data), REST, *key, *metadata, key=None)


def accepted(response: Any) -> bool:
    return bool(response == HttpBody(content_type="application/json", data=b"{}"))


@pytest.mark.parametrize("route", ROUTES[:-1])
async def test_each_route_takes_its_event(api: Api, source: Connection, route: str) -> None:
    assert accepted(await post(api, route, GOOD, source, STRICT))
    await api.harness.process_log()
    (document,) = map(json.loads, await api.harness.documents())
    assert (document["type"], document["userId"]) == (route.lower(), "u")


async def test_a_batch_takes_them_all(api: Api, source: Connection) -> None:
    batch = [{**GOOD, "type": route.lower()} for route in ROUTES[:-1]]
    assert accepted(await post(api, "Batch", {"batch": batch}, source, STRICT))
    await api.harness.process_log()
    assert [json.loads(document)["type"] for document in await api.harness.documents()] == [
        event["type"] for event in batch
    ]


async def test_gzip_whatever_the_content_type(api: Api, source: Connection) -> None:
    body = gzip.compress(json.dumps({"batch": [{**GOOD, "type": "page"}]}).encode())
    assert accepted(await post(api, "Batch", body, source, STRICT, ("content-encoding", "gzip")))
    assert len(await api.harness.log_entries()) == 1


async def test_the_address_of_the_caller_is_stored_with_the_call(api: Api, source: Connection) -> None:
    await post(api, "Page", GOOD, source, ("x-envoy-external-address", "203.0.113.9"))
    (stored,) = await api.harness.log_entries()
    assert decode_envelope(stored.entry.header).ip == "203.0.113.9"


REFUSED: list[tuple[str, object, bool, tuple[str, str] | None, int, str, str]] = [
    ("Page", b"{", True, None, 400, "BadRequest", "the body is not JSON: it ends too early"),
    ("Page", b"", True, None, 400, "BadRequest", "the body is empty: it must be JSON"),
    ("Page", [], True, None, 400, "BadRequest", "the body must be a JSON object"),
    ("Page", {}, True, None, 400, "BadRequest", "userId or anonymousId is required in a page event"),
    ("Batch", {}, True, None, 400, "BadRequest", "batch is required and must be an array of events"),
    ("Page", {"userId": "u" * 40_000}, True, None, 413, "PayloadTooLarge", "the body is larger than 32768 bytes"),
    ("Batch", {"batch": ["x" * 600_000]}, True, None, 413, "PayloadTooLarge", "the body is larger than 512000 bytes"),
    ("Page", b"junk", True, ("content-encoding", "gzip"), 400, "BadRequest", "the body is not valid gzip"),
    (
        "Page",
        GOOD,
        True,
        ("content-encoding", "br"),
        400,
        "BadRequest",
        "Content-Encoding 'br' is not supported: send gzip, deflate or none",
    ),
    (
        "Page",
        GOOD,
        False,
        None,
        401,
        "Unauthorized",
        "a write key is required: as Basic user, as Bearer token, in X-Write-Key, or as writeKey in the body",
    ),
    ("Page", GOOD, False, ("authorization", "Bearer x"), 401, "Unauthorized", "the write key is not known"),
]


FIELDS = {
    "userId or anonymousId is required in a page event": {"field": "userId"},
    "batch is required and must be an array of events": {"field": "batch"},
    "the body is not valid gzip": {"field": "body"},
    "Content-Encoding 'br' is not supported: send gzip, deflate or none": {"field": "body"},
}
"""The member `field` of the errors that have one."""


@pytest.mark.parametrize(
    ("route", "body", "with_key", "header", "status", "code", "message"), REFUSED, ids=lambda value: str(value)[:30]
)
async def test_a_rejected_call_returns_200_unless_it_is_strict(
    api: Api,
    source: Connection,
    route: str,
    body: object,
    with_key: bool,
    header: tuple[str, str] | None,
    status: int,
    code: str,
    message: str,
) -> None:
    """SDKs would send it again and again. It is stored with its reason in both cases."""
    caller = source if with_key else None
    headers = [header] if header else []
    for permissive in ([], [("x-strict-mode", "0")], [("x-strict-mode", "true")]):
        assert accepted(await post(api, route, body, caller, *headers, *permissive))
    failed = await post(api, route, body, caller, *headers, STRICT)
    envelope = {"success": False, "code": code, "message": message, "meta": {"errors": [message]}}
    assert failed.http == (status, envelope | FIELDS.get(message, {}))
    await api.harness.process_log()
    workspace = api.harness.workspace if with_key else 0
    kept, total = await api.harness.state.rejected(workspace, connection_id=None, protocol="track", first=0, limit=10)
    assert (total, {row.message for row in kept}) == (4, {message})
    assert await api.harness.documents() == []


async def test_a_strict_batch_lists_rejected_events_and_stores_the_others(api: Api, source: Connection) -> None:
    batch = {"batch": [{"type": "page"}, {**GOOD, "type": "page"}, 7]}
    failed = await post(api, "Batch", batch, source, STRICT)
    first = "userId or anonymousId is required in a page event"
    errors = [f"batch[0]: {first}", "batch[2]: the event must be a JSON object"]
    envelope = {"success": False, "code": "BadRequest", "message": first, "field": "batch[0].userId"}
    assert failed.http == (400, envelope | {"meta": {"errors": errors}})
    await api.harness.process_log()
    assert len(await api.harness.documents()) == 1


async def test_an_error_body_lists_no_more_than_20(api: Api, source: Connection) -> None:
    failed = await post(api, "Batch", {"batch": [{}] * 5000}, source, STRICT)
    assert failed.http is not None
    assert len(failed.http[1]["meta"]["errors"]) == 20


async def test_an_empty_batch_is_accepted(api: Api, source: Connection) -> None:
    assert accepted(await post(api, "Batch", {"batch": []}, source, STRICT))


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (Unavailable("no room"), 503, "ServiceUnavailable"),
        (TooManyRequests("later", retry_after=2), 429, "TooManyRequests"),
    ],
)
@pytest.mark.parametrize("body", [GOOD, {}, b"{"], ids=str)
async def test_a_failure_to_store_never_returns_200(
    api: Api,
    source: Connection,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    status: int,
    code: str,
    body: object,
) -> None:
    async def append(_frame: object) -> int:
        raise error

    monkeypatch.setattr(api.harness.log, "append", append)
    failed = await post(api, "Page", body, source)
    assert isinstance(failed, CallError)
    assert failed.http is not None
    assert (failed.http[0], failed.http[1]["code"], "retry-after" in failed.trailers) == (status, code, True)


async def test_native_callers_get_a_status(api: Api, harness: Harness) -> None:
    failed = await api.call("TrackService/Page", HttpBody(data=b"{"), STRICT, key=None)
    assert (failed.status, failed.reason, failed.http) == ("INVALID_ARGUMENT", "BadRequest", None)


# --- verbose=true: the outcome of each event ------------------------------------------------------------------------


async def test_a_verbose_response_lists_each_event(api: Api, source: Connection) -> None:
    await post(api, "Page", {"userId": "u", "messageId": "a"}, source)
    await api.harness.process_log()
    batch = [
        {"type": "page", "userId": "u", "messageId": "a"},
        {"type": "page", "userId": "u", "messageId": "b"},
        {"type": "track", "userId": "u"},
    ]
    asked = ("x-envoy-original-path", "/v1/batch?x=%26&verbose=true")
    call = asyncio.create_task(post(api, "Batch", {"batch": batch}, source, asked))
    while not call.done():
        await api.harness.process_log()
        await asyncio.sleep(0)
    assert json.loads((await call).data) == {
        "success": True,
        "events": [
            {"outcome": "Duplicate", "messageId": "a"},
            {"outcome": "Processed", "messageId": "b"},
            {
                "outcome": "Rejected",
                "code": "BadRequest",
                "path": "event",
                "message": "event is required in a track event",
            },
        ],
    }


FIELDS = {
    "userId or anonymousId is required in a page event": {"field": "userId"},
    "batch is required and must be an array of events": {"field": "batch"},
    "the body is not valid gzip": {"field": "body"},
    "Content-Encoding 'br' is not supported: send gzip, deflate or none": {"field": "body"},
}
"""The member `field` of the errors that have one."""


@pytest.mark.parametrize(
    ("route", "body", "with_key", "header", "status", "code", "message"), REFUSED, ids=lambda value: str(value)[:30]
)
async def test_a_verbose_response_gives_the_reason_of_a_rejected_call(
    api: Api,
    source: Connection,
    route: str,
    body: object,
    with_key: bool,
    header: tuple[str, str] | None,
    status: int,
    code: str,
    message: str,
) -> None:
    headers = [header] if header else []
    asked = ("x-envoy-original-path", f"/v1/{route.lower()}?verbose=true")
    response = await post(api, route, body, source if with_key else None, asked, *headers)
    body_json = json.loads(response.data)
    if body == {} and route == "Page":  # the call is readable, and its one event is rejected
        (body_json,) = body_json["events"]
    else:
        assert (body_json["success"], body_json["events"]) == (False, [])
    assert (body_json["code"], body_json["message"]) == (code, message)
    strict = await post(api, route, body, source if with_key else None, asked, *headers, STRICT)
    assert strict.http[0] == status


async def test_a_verbose_response_states_a_missing_pipeline(api: Api) -> None:
    source = await add_source(api.harness.catalog, api.harness.workspace, events=False, users=())
    asked = ("x-envoy-original-path", "/v1/page?verbose=true")
    call = asyncio.create_task(post(api, "Page", {"userId": "u", "messageId": "a"}, source, asked))
    while not call.done():
        await api.harness.process_log()
        await asyncio.sleep(0)
    assert json.loads((await call).data)["events"] == [{"outcome": "NoPipeline", "messageId": "a"}]


@pytest.mark.parametrize("path", ["/v1/page", "/v1/page?verbose=false", "/v1/page?verbose", "/v1/page?verbose=true%00"])
async def test_other_responses_are_empty(api: Api, source: Connection, path: str) -> None:
    assert accepted(await post(api, "Page", {"userId": "u"}, source, ("x-envoy-original-path", path)))
