"""The responses of token endpoints: what is read, what ends an authorization, and what does not."""

from datetime import timedelta

import msgspec
import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.contract import AuthorizationRevoked, HttpResponse
from headwater.connectors.oauth import MAX_LIFE, authorization_url, read_tokens
from tests.connectors.conformance.context import NOW
from tests.connectors.conformance.oauth import REQUEST
from tests.connectors.sample_oauth_app.test_authorization import CLIENT


def answer(members: dict[str, object], status: int = 200) -> HttpResponse:
    return HttpResponse(status=status, body=msgspec.json.encode(members))


@pytest.mark.parametrize(
    ("given", "life"),
    [
        (3_600, timedelta(hours=1)),
        (59.5, timedelta(seconds=59.5)),
        ("3600", timedelta(hours=1)),
        (None, None),
        ("", None),
        (0, None),
        (-1, None),
        (10**20, MAX_LIFE),
        ("1e300", MAX_LIFE),
        ("nan", None),
    ],
)
def test_the_life_of_a_token(given: object, life: timedelta | None) -> None:
    tokens = read_tokens(answer({"access_token": "a", "expires_in": given}), NOW)
    assert tokens.expires_at == (None if life is None else NOW + life)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"access_token": ""},
        {"access_token": 7},
        {"access_token": "a b"},
        {"access_token": "a\r\nx-other: b"},
        {"access_token": "é"},
        {"access_token": "a" * 8_193},
        {"access_token": "a", "refresh_token": "b\n"},
        {"access_token": "a", "token_type": "mac"},
        {"access_token": "a", "expires_in": "soon"},
        {"error": "invalid_grant"},
    ],
)
def test_a_success_without_usable_tokens_is_unavailable(members: dict[str, object]) -> None:
    with pytest.raises(Unavailable):
        read_tokens(answer(members), NOW)


@pytest.mark.parametrize("status", [400, 401])
def test_an_invalid_grant_ends_the_authorization(status: int) -> None:
    with pytest.raises(AuthorizationRevoked):
        read_tokens(answer({"error": "invalid_grant"}, status), NOW)


@pytest.mark.parametrize(
    ("status", "error", "named"),
    [
        (400, "invalid_client", True),
        (401, "invalid_client", True),
        (400, "unauthorized_client", True),
        (403, "invalid_grant", True),
        (500, "invalid_grant", True),
        (302, "", False),
        (400, "a secret: s3cret", False),
        (400, "x" * 101, False),
    ],
)
def test_other_errors_are_temporary_and_name_only_codes(status: int, error: str, named: bool) -> None:
    with pytest.raises(Unavailable) as caught:
        read_tokens(answer({"error": error, "error_description": "the token s3cret"}, status), NOW)
    assert (bool(error) and error in caught.value.message) is named
    assert "s3cret" not in caught.value.message


def test_an_endpoint_may_have_a_query() -> None:
    url = authorization_url("https://p.example/a?tenant=1", CLIENT, REQUEST, ("x", "y"), {"prompt": "consent"})
    assert url.startswith("https://p.example/a?tenant=1&response_type=code&") and "prompt=consent" in url
