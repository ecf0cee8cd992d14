"""Secrets are found in every encoding that a request or a response may have, and previews have the documented form."""

import base64
import gzip
import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.connectors.contract import HttpRequest
from headwater.connectors.redaction import MIN_SECRET_CHARACTERS, Redactor, format_request
from headwater.connectors.settings import REDACTED

SECRET = 'p@ss/"wörd"+1'


@pytest.mark.parametrize(
    "text",
    [
        SECRET,
        quote(SECRET),
        quote(SECRET, safe=""),
        urlencode({"a": SECRET}),
        json.dumps({"a": SECRET}),
        json.dumps({"a": SECRET}, ensure_ascii=False),
        quote(SECRET, safe="").lower(),
    ],
)
def test_a_secret_in_each_encoding(text: str) -> None:
    assert REDACTED in Redactor([SECRET]).redact(f"before {text} after")
    assert "rd" not in Redactor([SECRET]).redact(text)


@given(before=st.binary(max_size=8), secret=st.text(min_size=6, max_size=40), after=st.binary(max_size=8))
def test_a_secret_inside_base64(before: bytes, secret: str, after: bytes) -> None:
    raw = before + secret.encode(errors="surrogatepass") + after
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        assert REDACTED in Redactor([secret]).redact(encode(raw).decode())


@given(secret=st.text(min_size=MIN_SECRET_CHARACTERS, max_size=40), text=st.text(max_size=40))
def test_no_text_keeps_a_secret(secret: str, text: str) -> None:
    redacted = Redactor([secret]).redact(text + secret + text)
    assert secret not in redacted.replace(REDACTED, "") or secret in REDACTED


def test_overlapping_and_short_secrets() -> None:
    redactor = Redactor(["abcd", "abcdef", "x", ""])
    assert redactor.redact("abcdef abcd x") == f"{REDACTED} {REDACTED} x"
    assert Redactor().redact("abcdef") == "abcdef"


def test_headers_that_carry_credentials_are_redacted_as_a_whole() -> None:
    headers = {"authorization": "Basic abc", "x-api-key": "k", "cookie": "a=b", "x-trace": "with topsecret inside"}
    assert Redactor(["topsecret"]).redact_headers(headers) == {
        "authorization": REDACTED,
        "x-api-key": REDACTED,
        "cookie": REDACTED,
        "x-trace": f"with {REDACTED} inside",
    }


def test_log_entries() -> None:
    given = {"event": "call of topsecret", "count": 3, "nested": {"urls": ["http://h/topsecret", 5]}}
    entry = Redactor(["topsecret"]).process_log(None, "info", given)
    assert entry == {"event": f"call of {REDACTED}", "count": 3, "nested": {"urls": [f"http://h/{REDACTED}", 5]}}


def _preview(body: bytes, secret: str = "topsecret", **headers: str) -> str:
    request = HttpRequest(
        method="POST",
        url="https://h.example/p?key=topsecret",
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        body=body,
    )
    return format_request(request, Redactor([secret]))


def test_a_preview_of_json() -> None:
    preview = _preview(b'{"a":[1,"topsecret"],"b":{}}', content_type="application/json", authorization="Bearer x")
    assert preview == (
        f"POST https://h.example/p?key={REDACTED}\n"
        f"Authorization: {REDACTED}\r\nContent-Type: application/json\r\n\n"
        f'{{\n  "a": [\n    1,\n    "{REDACTED}"\n  ],\n  "b": {{}}\n}}'
    )


@pytest.mark.parametrize(
    ("body", "headers", "shown"),
    [
        (b'{"a":1}\n{"a":2}\n', {"content_type": "application/x-ndjson"}, '{\n    "a": 1\n}\n{\n    "a": 2\n}'),
        (b'{"a":1}', {"content_type": "application/vnd.api+json; charset=utf-8"}, '{\n  "a": 1\n}'),
        (
            gzip.compress(b'{"a":1}', mtime=0),  # the time would be a part of the name of the test
            {"content_type": "application/json", "content_encoding": "gzip"},
            '{\n  "a": 1\n}',
        ),
        (b"a=1&b=2", {"content_type": "application/x-www-form-urlencoded"}, "a=1&b=2"),
        (b"{broken", {"content_type": "application/json"}, "{broken"),
        (b"\xff\xfe", {"content_type": "text/plain"}, "[A binary body of 2 bytes]"),
        (b"text", {"content_type": "application/octet-stream"}, "[A binary body of 4 bytes]"),
        (b"no gzip", {"content_encoding": "gzip"}, "[A binary body of 7 bytes]"),
        (b"", {}, ""),
    ],
)
def test_bodies_of_previews(body: bytes, headers: dict[str, str], shown: str) -> None:
    assert _preview(body, **headers).partition("\n\n")[2] == shown


def test_a_bomb_is_shown_in_part() -> None:
    assert len(_preview(gzip.compress(b"x" * 50_000_000, mtime=0), content_encoding="gzip")) < 1_100_000
