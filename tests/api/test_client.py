"""The client API: 204 without a body, or the documented error body, and the stored record of a rejected call."""

import gzip
import json
import zlib
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headwater.base.errors import TooManyRequests, Unavailable
from headwater.catalog import Connection
from tests.api.conftest import REST, Api
from tests.events.test_client import DEVICE
from tests.jsontexts import json_values

NOTHING = HttpBody()
UNAUTHORIZED = {"status": "error", "error": "Authorization error.", "code": 1000}
UNREADABLE = {"status": "error", "error": "An error occurred with this request."}
EVENT = {"external_id": "E", "name": "Opened"}
GOOD: dict[str, Any] = {
    "Alias": {"anonymous_id": "A", "external_id": "E"},
    "Identify": {"external_id": "E", "email": "a@b.c"},
    "RegisterDevice": DEVICE,
    "PostEvents": [EVENT, {**EVENT, "name": "Closed"}],
    "Track": {"external_id": "E", "event": "Opened"},
}
NAMES = {
    "Alias": [None],
    "Identify": [None],
    "RegisterDevice": ["Device Created or Updated"],
    "PostEvents": ["Opened", "Closed"],
    "Track": ["Opened"],
}


async def post(api: Api, call: str, body: object, source: Connection | None, *metadata: tuple[str, str]) -> Any:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    key = () if source is None else (("authorization", f"Bearer {source.event_write_keys[0]}"),)
    return await api.call(f"ClientService/{call}", HttpBody(data=data), REST, *key, *metadata, key=None)


async def kept(api: Api, workspace: int) -> list[tuple[str, str, str, bytes]]:
    await api.harness.process_log()
    rows, _ = await api.harness.state.rejected(workspace, connection_id=None, protocol="client", first=0, limit=100)
    return [(row.code, row.path, row.message, row.body) for row in rows]


@pytest.mark.parametrize("call", GOOD)
async def test_each_call_is_stored_and_returns_an_empty_body(api: Api, source: Connection, call: str) -> None:
    assert await post(api, call, GOOD[call], source) == NOTHING
    await api.harness.process_log()
    assert [json.loads(document).get("event") for document in await api.harness.documents()] == NAMES[call]


async def test_a_repeated_message_id_is_stored_once(api: Api, source: Connection) -> None:
    for message_id in ("m", "m", "n", None, None):
        await post(api, "PostEvents", [{**EVENT, "message_id": message_id}], source)
        await post(api, "Track", {**EVENT, "message_id": message_id}, source)
    await api.harness.process_log()
    ids = [json.loads(document)["messageId"] for document in await api.harness.documents()]
    assert (ids.count("m"), ids.count("n"), len(ids)) == (1, 1, 6)


async def test_every_key_opens_the_client_api_and_native_callers_may_use_it(api: Api, source: Connection) -> None:
    key = ("authorization", f"Bearer {source.event_write_keys[0]}")
    assert not source.event_write_keys[0].startswith("pk_")
    assert await api.call("ClientService/Track", HttpBody(data=b'{"external_id":"E"}'), key, key=None) == NOTHING
    failed = await api.call("ClientService/Track", HttpBody(data=b"{}"), key, key=None)
    assert (failed.status, failed.reason, failed.http) == ("FAILED_PRECONDITION", "ValidationError", None)


@pytest.mark.parametrize(("encoding", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_compressed_bodies_are_accepted(api: Api, source: Connection, encoding: str, encode: Any) -> None:
    body = json.dumps(GOOD["PostEvents"]).encode()
    assert await post(api, "PostEvents", encode(body), source, ("content-encoding", encoding)) == NOTHING
    (stored,) = await api.harness.log_entries()
    assert stored.entry.body == body


@pytest.mark.parametrize("call", GOOD)
@pytest.mark.parametrize(
    "authorization", [None, "Bearer unknown", "Bearer ", "Digest x", "Basic dW5rbm93bjo=", "Bearer pk_unknown"]
)
async def test_without_a_known_key_it_is_401(
    api: Api, source: Connection, call: str, authorization: str | None
) -> None:
    """Applies also to a call that breaks a rule, and to one with a key in its body."""
    header = () if authorization is None else (("authorization", authorization),)
    for body in (GOOD[call], {}, {"writeKey": source.event_write_keys[0]}):
        failed = await post(api, call, body, None, *header)
        assert failed.http == (401, UNAUTHORIZED)
    assert {code for code, *_ in await kept(api, 0)} == {"Unauthorized"}
    assert await api.harness.documents() == []


@pytest.mark.parametrize(
    ("call", "body", "path", "message"),
    [
        ("Alias", {}, "external_id", "Must have required property 'external_id'"),
        ("Identify", {"external_id": "E", "plan": "pro"}, "", "Must NOT have additional properties"),
        ("RegisterDevice", {}, "device_id", "Must have required property 'device_id'"),
        ("PostEvents", [], "", "Must NOT have fewer than 1 items"),
        ("PostEvents", [EVENT, {"name": "x"}], "anonymous_id", "Must have required property 'anonymous_id'"),
        ("PostEvents", [EVENT, {**EVENT, "data": 1}], "data", "The value of `1/data` must be a object."),
        ("Track", {"external_id": 1}, "external_id", "The value of `external_id` must be a string."),
    ],
)
async def test_a_call_that_breaks_a_rule_is_422_and_nothing_of_it_is_stored(
    api: Api, source: Connection, call: str, body: object, path: str, message: str
) -> None:
    failed = await post(api, call, body, source)
    assert failed.http == (422, {"status": "error", "error": message})
    assert await kept(api, api.harness.workspace) == [("ValidationError", path, message, json.dumps(body).encode())]
    assert await api.harness.documents() == []


async def test_a_rejected_compressed_call_is_stored_readable(api: Api, source: Connection) -> None:
    await post(api, "Alias", gzip.compress(b'{"external_id":"E"}'), source, ("content-encoding", "gzip"))
    ((_, _, _, body),) = await kept(api, api.harness.workspace)
    assert body == b'{"external_id":"E"}'


@pytest.mark.parametrize(
    ("body", "encoding"), [(b"{", None), (b"5", None), (b"\xff", None), (b"{}", "gzip"), (b"{}", "br")]
)
async def test_an_unreadable_body_is_400(api: Api, source: Connection, body: bytes, encoding: str | None) -> None:
    header = () if encoding is None else (("content-encoding", encoding),)
    failed = await post(api, "Alias", body, source, *header)
    assert failed.http == (400, UNREADABLE)
    ((code, _, _, raw),) = await kept(api, api.harness.workspace)
    assert (code, raw) == ("BadRequest", body)


async def test_a_mebibyte_is_accepted_and_one_byte_more_is_413(api: Api, source: Connection) -> None:
    body = b'[{"external_id":"E","data":{"x":"' + b"x" * (1_048_576 - 37) + b'"}}]'
    assert len(body) == 1_048_576
    assert await post(api, "PostEvents", body, source) == NOTHING
    for failed in (
        await post(api, "PostEvents", body + b" ", source),
        await post(api, "PostEvents", gzip.compress(body + b" "), source, ("content-encoding", "gzip")),
    ):
        assert failed.http == (413, {"status": "error", "error": "the body is larger than 1048576 bytes"})


@pytest.mark.parametrize(
    ("error", "status"), [(Unavailable("no room"), 503), (TooManyRequests("too much waits", retry_after=2), 429)]
)
@pytest.mark.parametrize("body", [GOOD["Alias"], {}, b"{"], ids=str)
async def test_a_failure_to_store_is_an_error(
    api: Api, source: Connection, monkeypatch: pytest.MonkeyPatch, error: Any, status: int, body: object
) -> None:
    async def append(_frame: object) -> int:
        raise error

    monkeypatch.setattr(api.harness.log, "append", append)
    failed = await post(api, "Alias", body, source)
    assert failed.http == (status, {"status": "error", "error": error.message})
    assert "retry-after" in failed.trailers


_OBJECTS = st.dictionaries(
    st.sampled_from([*DEVICE, "anonymous_id", "name", "data", "user", "email", "event"]), json_values, max_size=9
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(GOOD)), st.one_of(_OBJECTS, st.lists(_OBJECTS, max_size=3), json_values))
async def test_any_body_is_accepted_or_rejected_as_documented(
    api: Api, source: Connection, call: str, body: Any
) -> None:
    """The worker reads exactly the calls that the intake has accepted."""
    before = len(await api.harness.documents())
    response = await post(api, call, body, source)
    await api.harness.process_log()
    after = len(await api.harness.documents())
    if response == NOTHING:
        assert after == before + (len(body) if call == "PostEvents" else 1)
    else:
        assert response.http[0] in (400, 422)
        assert (response.http[1]["status"], after) == ("error", before)
