"""The key in `Authorization`, in every form that SDKs send, and the media type of the body."""

import base64

import pytest

from headwater.base.errors import BadRequest, Unauthorized
from headwater.intake.authentication import parse_bearer_token, parse_named_key, parse_write_key
from headwater.intake.body import check_is_json

KEY = "AbCdEfGhIjKlMnOpQrStUvWxYz012345"  # 32 characters, which base64 would take too
PUBLIC = "pk_2f1e8a52-5c5f-4f0e-9d0c-0f6d8b1c2a3b"


def basic(user_and_password: str) -> str:
    return "Basic " + base64.b64encode(user_and_password.encode()).decode()


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (None, None),
        ("", None),
        ("   ", None),
        (basic(f"{KEY}:"), KEY),
        (basic(f"{PUBLIC}:"), PUBLIC),
        (basic(f"{KEY}:password"), KEY),
        (basic(f"{KEY}::"), KEY),
        (basic(f" {KEY} :"), KEY),
        (f"basic {base64.b64encode(f'{KEY}:'.encode()).decode()}", KEY),
        (f"BASIC  {base64.b64encode(f'{KEY}:'.encode()).decode()} ", KEY),
        (f"Basic {KEY}", KEY),
        (f"Basic {KEY}:", KEY),
        (f"Basic {PUBLIC}", PUBLIC),
        (basic(":"), None),
        (basic(":password"), None),
        (f"Bearer {KEY}", KEY),
        (f"bearer   {PUBLIC} ", PUBLIC),
        ("Bearer", None),
        ("Basic", None),
        (basic("ключ:"), "0LrQu9GO0Yc6"),
    ],
)
def test_finds_the_key(header: str | None, key: str | None) -> None:
    assert parse_write_key(header) == key


@pytest.mark.parametrize("header", ["Digest abc", KEY, "Token abc", "Basic:abc", "AWS4-HMAC-SHA256 Credential=x"])
def test_rejects_another_scheme(header: str) -> None:
    with pytest.raises(Unauthorized, match="'Basic' with the write key as user, or 'Bearer'"):
        parse_write_key(header)


@pytest.mark.parametrize(
    ("header", "key"),
    [
        (None, None),
        ("", None),
        (KEY, KEY),
        (f" {KEY} ", KEY),
        (f"shop:{KEY}", KEY),
        (f"shop: {KEY} ", KEY),
        (f":{KEY}", KEY),
        ("shop:", None),
        (":", None),
    ],
)
def test_finds_the_key_after_a_name(header: str | None, key: str | None) -> None:
    assert parse_named_key(header) == key


@pytest.mark.parametrize(
    ("header", "token"),
    [(None, None), ("", None), ("  ", None), ("Bearer k", "k"), ("bearer  k ", "k"), ("BEARER api_k", "api_k")],
)
def test_a_bearer_token(header: str | None, token: str | None) -> None:
    assert parse_bearer_token(header) == token


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic azo=", "k", "Token k"])
def test_nothing_but_a_bearer_token(header: str) -> None:
    with pytest.raises(BadRequest, match="must be 'Bearer'"):
        parse_bearer_token(header)


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "application/json",
        "application/json;",
        " text/plain ",
        "Application/JSON; charset=UTF-8",
        'text/plain;charset="utf-8"',
        "application/json ; charset = utf8",
    ],
)
def test_json_or_text_in_utf_8_is_accepted(content_type: str) -> None:
    check_is_json(content_type)  # raises nothing


@pytest.mark.parametrize(
    "content_type",
    [
        "text/html",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin1",
        "application/json; profile=x",
        "application/json; charset=utf-8; charset=utf-8",
        "application/jsonp",
        "application/json, text/plain",
        "json",
    ],
)
def test_any_other_media_type_is_rejected(content_type: str) -> None:
    with pytest.raises(BadRequest, match="the Content-Type must be application/json or text/plain, in UTF-8"):
        check_is_json(content_type)
