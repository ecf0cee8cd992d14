"""The native events API: 200 without a body for every readable call, and the keys that may send."""

import gzip
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from headwater.base.errors import TooManyRequests, Unavailable
from headwater.catalog import Connection
from headwater.events.protocol import decode_envelope
from headwater.management.connections import CreateConnection, create_connection
from headwater.rest.v1 import native_events_pb2 as pb
from tests.api.conftest import REST, RESTRICTED, UNRESTRICTED, Api, CallError
from tests.harness import add_source, add_workspace

GOOD: dict[str, Any] = {"type": "track", "event": "Signed Up", "userId": "u"}
ACCEPTED = HttpBody(content_type="text/plain", data=b"")


@pytest.fixture
async def javascript(api: Api) -> AsyncIterator[Connection]:
    request = CreateConnection(name="Web", role="Source", connector="javascript", strategy="Fusion")
    yield await create_connection(api.harness.catalog, api.harness.workspace, request)


async def post(
    api: Api, body: object, key: str | None, *metadata: tuple[str, str], type: str | None = None, content_type: str = ""
) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    raw = HttpBody(data=data, content_type=content_type)
    if type is None:
        return await api.call("NativeEventService/PostEvents", raw, REST, *metadata, key=key)
    request = pb.PostEventRequest(type=type, event=raw)
    return await api.call("NativeEventService/PostEvent", request, REST, *metadata, key=key)


def first_key(source: Connection) -> str:
    return source.event_write_keys[0]


async def stored(api: Api) -> list[dict[str, Any]]:
    await api.harness.process_log()
    return [json.loads(document) for document in await api.harness.documents()]


def has_error(response: Any, status: int, code: str, message: str, field: str = "") -> bool:
    assert isinstance(response, CallError), response
    error = {"code": code, "message": message} | ({"field": field} if field else {})
    assert response.http == (status, {"error": error})
    return True


# --- Bodies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [GOOD, [GOOD], {"batch": [GOOD]}], ids=["event", "array", "batch"])
async def test_every_shape_is_stored_and_returns_an_empty_body(api: Api, source: Connection, body: object) -> None:
    assert await post(api, body, first_key(source)) == ACCEPTED
    (event,) = await stored(api)
    assert (event["event"], event["userId"], event["connectionId"]) == ("Signed Up", "u", source.id)


@pytest.mark.parametrize("type_", ["alias", "group", "identify", "page", "screen", "track"])
async def test_the_type_may_stand_in_the_path(api: Api, source: Connection, type_: str) -> None:
    required = {"alias": {"previousId": "p"}, "group": {"groupId": "g"}, "track": {"event": "E"}}.get(type_, {})
    assert await post(api, {"userId": "u", **required}, first_key(source), type=type_) == ACCEPTED
    assert [event["type"] for event in await stored(api)] == [type_]


@pytest.mark.parametrize("type_", ["rejected", "Track", "settings", "", "x" * 100])
async def test_an_unknown_type_in_the_path_is_not_found(api: Api, source: Connection, type_: str) -> None:
    response = await post(api, GOOD, first_key(source), type=type_)
    assert response.http[0] == 404
    assert await api.harness.log_entries() == []


async def test_a_rejected_event_changes_neither_the_response_nor_other_events(api: Api, source: Connection) -> None:
    assert await post(api, [GOOD, {**GOOD, "userId": 42}, 7], first_key(source)) == ACCEPTED
    assert len(await stored(api)) == 1
    kept, _ = await api.harness.state.rejected(
        api.harness.workspace, connection_id=source.id, protocol="native", first=0, limit=10
    )
    assert {(row.path, row.message, row.body) for row in kept} == {
        ("userId", "userId must be a string or null", json.dumps({**GOOD, "userId": 42}).encode()),
        ("", "the event must be an object", b"7"),
    }


async def test_gzip_is_decompressed(api: Api, source: Connection) -> None:
    body = gzip.compress(json.dumps(GOOD).encode())
    assert await post(api, body, first_key(source), ("content-encoding", "gzip")) == ACCEPTED
    assert len(await stored(api)) == 1


REFUSED: list[tuple[object, tuple[str, str] | None, str, int, str, str, str]] = [
    (b"", None, "", 400, "BadRequest", "the body is empty: it must be JSON", ""),
    (b"[1", None, "", 400, "BadRequest", "the body is not JSON: it ends too early", ""),
    (5, None, "", 400, "BadRequest", "the body must be an event, an array of events, or a batch", ""),
    ([], None, "", 400, "BadRequest", "a call has 1 to 20000 events, not 0", "batch"),
    ({"batch": [GOOD], "context": None}, None, "", 400, "BadRequest", "context must be an object", "context"),
    (
        {**GOOD, "connectionId": 5},
        None,
        "",
        400,
        "BadRequest",
        "connectionId is only for calls with an API key",
        "connectionId",
    ),
    (b"x" * 512_001, None, "", 413, "PayloadTooLarge", "the body is larger than 512000 bytes", ""),
    (
        gzip.compress(b"x" * 600_000, mtime=0),
        ("content-encoding", "gzip"),
        "",
        413,
        "PayloadTooLarge",
        "the body is larger than 512000 bytes",
        "",
    ),
    (b"junk", ("content-encoding", "gzip"), "", 400, "BadRequest", "the body is not valid gzip", "body"),
    (
        GOOD,
        None,
        "application/xml",
        400,
        "BadRequest",
        "the Content-Type must be application/json or text/plain, in UTF-8",
        "content-type",
    ),
]


@pytest.mark.parametrize(
    ("body", "header", "content_type", "status", "code", "message", "field"), REFUSED, ids=lambda value: str(value)[:30]
)
async def test_an_unreadable_call_is_rejected_and_stored(
    api: Api,
    source: Connection,
    body: object,
    header: tuple[str, str] | None,
    content_type: str,
    status: int,
    code: str,
    message: str,
    field: str,
) -> None:
    headers = [header] if header else []
    response = await post(api, body, first_key(source), *headers, content_type=content_type)
    assert has_error(response, status, code, message, field)
    (entry,) = await api.harness.log_entries()
    rejection = decode_envelope(entry.entry.header).rejection
    assert rejection is not None
    assert (rejection.code, rejection.message) == (code, message)


@pytest.mark.parametrize("error", [Unavailable("no room"), TooManyRequests("too much waits")])
async def test_a_failure_to_store_is_an_error(
    api: Api, source: Connection, monkeypatch: pytest.MonkeyPatch, error: Unavailable | TooManyRequests
) -> None:
    async def full(entry: object) -> int:
        raise error

    monkeypatch.setattr(api.harness.log, "append", full)
    assert has_error(await post(api, GOOD, first_key(source)), error.status, error.code, error.message)


# --- Keys ---------------------------------------------------------------------------------------------------------


async def test_the_write_key_may_stand_in_the_envelope(api: Api, source: Connection) -> None:
    for body in ({**GOOD, "writeKey": first_key(source)}, {"batch": [GOOD], "writeKey": first_key(source)}):
        assert await post(api, body, None) == ACCEPTED
    assert len(await stored(api)) == 2


async def test_the_header_comes_before_the_envelope(api: Api, source: Connection) -> None:
    response = await post(api, {**GOOD, "writeKey": first_key(source)}, "unknown")
    assert has_error(response, 401, "Unauthorized", "the write key is not known")


async def test_a_type_in_the_path_has_no_envelope(api: Api, source: Connection) -> None:
    response = await post(api, {**GOOD, "writeKey": first_key(source)}, None, type="track")
    assert response.http[0] == 401


@pytest.mark.parametrize(
    ("metadata", "status", "message"),
    [
        ([], 401, "a key is required: as Bearer token, or a write key as writeKey in the body"),
        (["Bearer unknown"], 401, "the write key is not known"),
        (["Bearer api_unknown"], 401, "the API key is not known"),
        (["Basic eDp5"], 400, "the Authorization header must be 'Bearer' and an event write key or an API key"),
        (["Bearer"], 400, "the Authorization header must be 'Bearer' and an event write key or an API key"),
        (["Bearer a", "Bearer a"], 400, "the authorization header is repeated"),
    ],
    ids=str,
)
async def test_an_unknown_caller_is_rejected(api: Api, metadata: list[str], status: int, message: str) -> None:
    response = await post(api, GOOD, None, *(("authorization", value) for value in metadata))
    assert (response.http[0], response.http[1]["error"]["message"]) == (status, message)


def workspace(id_: object) -> tuple[str, str]:
    return ("headwater-workspace", str(id_))


async def test_an_api_key_names_the_source_in_the_envelope(api: Api, source: Connection) -> None:
    here = workspace(api.harness.workspace)
    for key, headers in ((RESTRICTED, []), (RESTRICTED, [here]), (UNRESTRICTED, [here])):
        for body in ({**GOOD, "connectionId": source.id}, {"batch": [GOOD], "connectionId": source.id}):
            assert await post(api, body, key, *headers) == ACCEPTED
    assert {event["connectionId"] for event in await stored(api)} == {source.id}
    assert len(await stored(api)) == 6


async def test_an_api_key_opens_its_workspace_only(api: Api, source: Connection) -> None:
    elsewhere = await add_workspace(api.harness.catalog, "Elsewhere")
    theirs = await add_source(api.harness.catalog, elsewhere.id)
    destination = await create_connection(
        api.harness.catalog, api.harness.workspace, CreateConnection(name="D", role="Destination", connector="dummy")
    )
    cases: list[tuple[str, object, list[tuple[str, str]], int, str]] = [
        (RESTRICTED, None, [], 400, "BadRequest"),
        (RESTRICTED, "7", [], 400, "BadRequest"),
        (RESTRICTED, 7, [], 422, "ConnectionNotExist"),
        (RESTRICTED, theirs.id, [], 422, "ConnectionNotExist"),
        (RESTRICTED, destination.id, [], 422, "ConnectionNotExist"),
        (RESTRICTED, source.id, [workspace(elsewhere.id)], 404, "NotFound"),
        (RESTRICTED, source.id, [workspace("x")], 400, "BadRequest"),
        (RESTRICTED, source.id, [workspace(api.harness.workspace)] * 2, 400, "BadRequest"),
        (UNRESTRICTED, source.id, [], 403, "Forbidden"),
        (UNRESTRICTED, source.id, [workspace(elsewhere.id)], 422, "ConnectionNotExist"),
        (UNRESTRICTED, source.id, [workspace(7)], 404, "NotFound"),
    ]
    for key, id_, headers, status, code in cases:
        body = GOOD if id_ is None else {**GOOD, "connectionId": id_}
        response = await post(api, body, key, *headers)
        assert isinstance(response, CallError), (key, id_, headers)
        assert response.http is not None
        assert (response.http[0], response.http[1]["error"]["code"]) == (status, code), (key, id_, headers)
    assert await stored(api) == []


async def test_a_call_for_an_unknown_source_is_stored_in_the_keys_workspace(api: Api) -> None:
    await post(api, {**GOOD, "connectionId": 7}, RESTRICTED)
    await api.harness.process_log()
    ((row,), _) = await api.harness.state.rejected(
        api.harness.workspace, connection_id=None, protocol="native", first=0, limit=10
    )
    assert (row.connection, row.code, row.path) == (0, "ConnectionNotExist", "connectionId")


async def test_a_revoked_api_key_is_unknown(api: Api, source: Connection) -> None:
    async with api.harness.catalog.change() as change:
        (key,) = (key for key in api.harness.catalog.api_keys() if key.workspace is not None)
        change.remove_api_key(key)
    response = await post(api, {**GOOD, "connectionId": source.id}, RESTRICTED)
    assert has_error(response, 401, "Unauthorized", "the API key is not known")


# --- Settings -----------------------------------------------------------------------------------------------------


async def test_settings_have_the_strategy_of_the_source(api: Api, javascript: Connection) -> None:
    key = first_key(javascript)
    response = await api.call(
        "NativeEventService/GetEventSettings", pb.GetEventSettingsRequest(write_key=key), REST, key=None
    )
    assert response.content_type == "application/json"
    assert json.loads(response.data) == {"strategy": "Fusion", "integrations": {"Krenalis": {"apiKey": key}}}


async def test_a_source_without_a_strategy_has_no_settings(api: Api, source: Connection) -> None:
    for key in (first_key(source), "unknown"):
        request = pb.GetEventSettingsRequest(write_key=key)
        response = await api.call("NativeEventService/GetEventSettings", request, REST, key=None)
        assert response.http[0] == 401
