"""The write key in an Authorization header, in every form in which SDKs put it there."""

import base64

import pytest

from headwater.base.errors import BadRequest, Unauthorized
from headwater.intake.credentials import bearer_token_of, write_key_of

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
    assert write_key_of(header) == key


@pytest.mark.parametrize("header", ["Digest abc", KEY, "Token abc", "Basic:abc", "AWS4-HMAC-SHA256 Credential=x"])
def test_refuses_another_scheme(header: str) -> None:
    with pytest.raises(Unauthorized, match="'Basic' with the write key as user, or 'Bearer'"):
        write_key_of(header)


@pytest.mark.parametrize(
    ("header", "token"),
    [(None, None), ("", None), ("  ", None), ("Bearer k", "k"), ("bearer  k ", "k"), ("BEARER api_k", "api_k")],
)
def test_a_bearer_token(header: str | None, token: str | None) -> None:
    assert bearer_token_of(header) == token


@pytest.mark.parametrize("header", ["Bearer", "Bearer ", "Basic azo=", "k", "Token k"])
def test_nothing_but_a_bearer_token(header: str) -> None:
    with pytest.raises(BadRequest, match="must be 'Bearer'"):
        bearer_token_of(header)
