"""Access to Salesforce: the conformance suite, the server of an account, and its organization."""

import msgspec
import pytest

from headwater.base.errors import Unavailable
from headwater.connectors.contract import AuthorizationRevoked, HttpResponse, OAuthClient, OAuthProvider, OAuthTokens
from headwater.connectors.salesforce.authorization import LOGIN, SalesforceAuthorization
from tests.connectors.conformance.context import ScriptedHttp, make_context
from tests.connectors.conformance.oauth import REDIRECT, REQUEST, OAuthConformance
from tests.connectors.vendors.salesforce import (
    CLIENT_ID,
    CLIENT_SECRET,
    CODE,
    INSTANCE,
    ORGANIZATION,
    REFRESH_TOKEN,
    TOKEN,
    SalesforceServer,
)

CLIENT = OAuthClient(id=CLIENT_ID, secret=CLIENT_SECRET)


def make(http: ScriptedHttp, client: OAuthClient = CLIENT) -> SalesforceAuthorization:
    return SalesforceAuthorization(msgspec.structs.replace(make_context(http), oauth_client=client))


class TestAuthorization(OAuthConformance):
    def make(self, http: ScriptedHttp) -> OAuthProvider:
        return make(http)

    def tokens(self, access: str, refresh: str, seconds: int | None) -> HttpResponse:
        response = super().tokens(access, refresh, seconds)
        body = msgspec.json.decode(response.body) | {"instance_url": INSTANCE}
        return msgspec.structs.replace(response, body=msgspec.json.encode(body))


async def test_a_user_grants_access_to_an_account() -> None:
    server = SalesforceServer()
    provider = make(ScriptedHttp(server.respond))
    tokens = await provider.exchange(CODE, REDIRECT, "the-verifier")
    assert (tokens.access_token, tokens.refresh_token, tokens.url) == (TOKEN, REFRESH_TOKEN, INSTANCE)
    assert tokens.expires_at is None, "it is refreshed when it is refused"
    assert await provider.account(tokens) == ORGANIZATION
    refreshed = await provider.refresh(REFRESH_TOKEN)
    assert (refreshed.refresh_token, refreshed.url) == ("", INSTANCE)
    with pytest.raises(AuthorizationRevoked):
        await provider.refresh("another")
    assert server.violations == []


def test_the_login_server_is_that_of_the_installation() -> None:
    assert make(ScriptedHttp()).authorization_url(REQUEST).startswith(f"{LOGIN}/services/oauth2/authorize?")
    sandbox = OAuthClient(id=CLIENT_ID, secret=CLIENT_SECRET, url="https://test.salesforce.com")
    url = make(ScriptedHttp(), sandbox).authorization_url(REQUEST)
    assert url.startswith("https://test.salesforce.com/") and "scope=api+refresh_token+openid" in url


def answer(**members: object) -> ScriptedHttp:
    body = msgspec.json.encode({"access_token": "t", "token_type": "Bearer", **members})
    return ScriptedHttp(lambda _: HttpResponse(status=200, body=body))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.my.salesforce.com",
        "https://salesforce.com.evil.example",
        "https://evil.example/.salesforce.com",
        "https://evilsalesforce.com",
        "https://user@evil.example#.salesforce.com",
        "https://example.my.salesforce.com:444",
        "https://127.0.0.1",
        "https://example.my.salesforce.com/path",
    ],
)
async def test_tokens_are_sent_to_servers_of_salesforce_only(url: str) -> None:
    for call in (
        make(answer(instance_url=url)).refresh("r"),
        make(answer(instance_url=url)).exchange("c", REDIRECT, ""),
    ):
        with pytest.raises(Unavailable):
            await call


@pytest.mark.parametrize(
    "url",
    [
        "https://example.my.salesforce.com/",
        "https://na1.salesforce.com",
        "https://Example--dev.sandbox.my.salesforce.com",
        "https://example.my.salesforce.mil",
    ],
)
async def test_all_servers_of_salesforce_are_accepted(url: str) -> None:
    assert (await make(answer(instance_url=url)).refresh("r")).url == url.rstrip("/")


async def test_an_account_has_a_server() -> None:
    with pytest.raises(Unavailable):
        await make(answer()).exchange("c", REDIRECT, "")
    assert (await make(answer()).refresh("r")).url == "", "the old one remains"


@pytest.mark.parametrize(
    ("status", "body"),
    [(500, b""), (403, b"Bad_OAuth_Token"), (200, b"{}"), (200, b'{"organization_id":"x"}'), (200, b"\xff")],
)
async def test_a_response_without_an_organization(status: int, body: bytes) -> None:
    http = ScriptedHttp(lambda _: HttpResponse(status=status, body=body))
    with pytest.raises(Unavailable):
        await make(http).account(OAuthTokens(access_token="t", url=INSTANCE))
