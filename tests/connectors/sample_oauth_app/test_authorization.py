"""Access to the sample OAuth app: the conformance suite, and responses of its provider."""

import msgspec
import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.contract import HttpResponse, OAuthClient, OAuthProvider, OAuthTokens
from headwater.connectors.sample_oauth_app.authorization import SampleAuthorization
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.oauth import REQUEST, OAuthConformance

CLIENT = OAuthClient(id="the-client", secret="the-client-secret", url="https://provider.example")


def make(http: ScriptedHttp) -> SampleAuthorization:
    return SampleAuthorization(msgspec.structs.replace(make_context(http), oauth_client=CLIENT))


class TestAuthorization(OAuthConformance):
    def make(self, http: ScriptedHttp) -> OAuthProvider:
        return make(http)


def test_the_scopes_depend_on_the_role() -> None:
    provider = make(ScriptedHttp())
    assert "scope=account+events%3Awrite" in provider.authorization_url(REQUEST)
    source = msgspec.structs.replace(REQUEST, role="Source")
    assert "scope=account+users%3Aread" in provider.authorization_url(source)


def test_without_a_client_it_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="no OAuth client"):
        SampleAuthorization(make_context())


async def test_the_account_is_asked_with_the_token() -> None:
    http = ScriptedHttp(lambda _: HttpResponse(status=200, body=b'{"id":"shop-1"}'))
    assert await make(http).account(OAuthTokens(access_token="the-token")) == "shop-1"
    [request] = http.requests
    assert (request.url, request.headers["authorization"]) == (
        "https://provider.example/api/account",
        "Bearer the-token",
    )


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (401, b'{"id":"x"}'), (200, b"{}"), (200, b'{"id":""}'), (200, b'{"id":7}'), (200, b"\xff")],
)
async def test_a_response_without_an_account(status: int, body: bytes) -> None:
    http = ScriptedHttp(lambda _: HttpResponse(status=status, body=body))
    with pytest.raises(Unavailable):
        await make(http).account(OAuthTokens(access_token="the-token"))


def test_the_client_is_not_printed() -> None:
    assert CLIENT.secret not in repr(CLIENT)
