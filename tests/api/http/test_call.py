"""What a servicer finds in the place of gRPC's context, and the bytes of the answer."""

from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from grpc import aio

from headwater.api.call import is_transcoded, metadata_of, query_of, send_headers
from headwater.api.http.call import HttpCall, context_of, metadata_text, response


def test_headers_are_metadata_and_the_target_is_what_was_asked_for() -> None:
    metadata = metadata_of(context_of(HttpCall((("a", "1"), ("b", "2"), ("a", "3")), "/v1/track?verbose=true&x=%26")))
    assert metadata == {"a": "3", "b": "2", "x-envoy-original-path": "/v1/track?verbose=true&x=%26"}
    assert is_transcoded(metadata)
    assert query_of(metadata) == {"verbose": "true", "x": "&"}


def test_nobody_can_say_that_something_else_was_asked_for() -> None:
    call = HttpCall((("x-envoy-original-path", "/v1/track?verbose=true"),), "/v1/track")
    assert query_of(metadata_of(context_of(call))) == {}


def test_repeated_headers_are_all_there() -> None:
    call = HttpCall((("a", "1"), ("a", "2")), "/")
    assert [value for name, value in call.invocation_metadata() if name == "a"] == ["1", "2"]


ANSWERS: list[tuple[dict[str, str], HttpBody, bytes]] = [
    (
        {},
        HttpBody(content_type="application/json", data=b"{}"),
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    ),
    (
        {"ratelimit-limit": "5"},
        HttpBody(content_type="text/plain"),
        b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 0\r\nratelimit-limit: 5\r\n\r\n",
    ),
    (
        {"x-http-code": "201"},
        HttpBody(content_type="application/json", data=b"[]"),
        b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n[]",
    ),
    (
        {"x-http-code": "204", "retry-after": "1"},
        HttpBody(),
        b"HTTP/1.1 204 No Content\r\nretry-after: 1\r\n\r\n",
    ),
]


@pytest.mark.parametrize(("headers", "body", "answer"), ANSWERS, ids=[str(headers) for headers, *_ in ANSWERS])
async def test_a_success_has_the_body_and_the_headers_that_were_sent(
    headers: dict[str, str], body: HttpBody, answer: bytes
) -> None:
    call = HttpCall((), "/")
    await send_headers(context_of(call), headers)
    assert call.answered(body) == answer


async def test_a_refusal_has_the_body_and_the_status_that_its_trailers_ask_for() -> None:
    call = HttpCall((), "/")
    trailers = (("x-http-code", "429"), ("x-http-body", '{"a": "\\u00e9"}'), ("retry-after", "7"))
    with pytest.raises(aio.AbortError, match="too many"):
        await call.abort(object(), "too many", trailers)
    assert call.answered(None) == (
        b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\ncontent-length: 15\r\nretry-after: 7\r\n"
        b"\r\n"
        b'{"a": "\\u00e9"}'
    )


async def test_a_refusal_forgets_the_headers_of_the_success_that_it_was_to_be() -> None:
    call = HttpCall((), "/")
    await call.send_initial_metadata((("x-http-code", "204"),))
    with pytest.raises(aio.AbortError):
        await call.abort(object(), "", (("x-http-code", "500"), ("x-http-body", "{}")))
    assert call.answered(None).startswith(b"HTTP/1.1 500 Internal Server Error\r\n")


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        ((200, b""), b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 0\r\n\r\n"),
        ((413, b"{}"), b"HTTP/1.1 413 %s\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"),
        ((204, b""), b"HTTP/1.1 204 No Content\r\n\r\n"),
        (
            (400, b"{}", {"connection": "close"}, "text/plain"),
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}",
        ),
    ],
)
def test_a_response_says_how_long_it_is(arguments: Any, answer: bytes) -> None:
    made = response(*arguments)
    phrase = made.split(b"\r\n")[0].split(b" ", 2)[2]  # Python 3.13 calls 413 by its new name
    assert made == answer.replace(b"%s", phrase)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"", ""),
        (b"Bearer k", "Bearer k"),
        ("naïve 😀".encode(), "naïve 😀"),
        (b"na\xefve", "naïve"),
        (b"\xff\xfe", "ÿþ"),
    ],
)
def test_a_headers_value_is_utf_8_or_else_latin_1(value: bytes, text: str) -> None:
    assert metadata_text(value) == text
