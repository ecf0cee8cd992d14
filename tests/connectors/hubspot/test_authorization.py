"""Access to HubSpot by OAuth: the conformance suite, scopes, HubSpot's own errors, and connections with an account."""

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest

from headwater.base.errors import BadRequest, Unavailable
from headwater.connectors.contract import (
    AuthorizationRevoked,
    HttpResponse,
    OAuthClient,
    OAuthProvider,
    OAuthTokens,
    UserWrite,
)
from headwater.connectors.hubspot import CONNECTOR
from headwater.connectors.hubspot.authorization import EVENT_SCOPES, SCOPES, TOKEN_URL, HubSpotAuthorization
from headwater.connectors.hubspot.events import HubSpotSink
from headwater.connectors.hubspot.users import HubSpotContacts
from headwater.management.connection_rules import check_account_or_settings, check_auth_token, read_settings
from tests.connectors.conformance.context import NOW, ScriptedHttp, make_context
from tests.connectors.conformance.event_sink import FIRST, make_event
from tests.connectors.conformance.oauth import REQUEST, OAuthConformance
from tests.connectors.test_pages import page
from tests.connectors.vendors.hubspot import (
    CLIENT_ID,
    CLIENT_SECRET,
    CODE,
    ORDER_COMPLETED,
    REFRESH_TOKEN,
    TOKEN,
    HubSpotServer,
)

CLIENT = OAuthClient(id=CLIENT_ID, secret=CLIENT_SECRET)
SETTINGS = {"accessToken": TOKEN}


def make(http: ScriptedHttp) -> HubSpotAuthorization:
    return HubSpotAuthorization(msgspec.structs.replace(make_context(http), oauth_client=CLIENT))


class TestAuthorization(OAuthConformance):
    def make(self, http: ScriptedHttp) -> OAuthProvider:
        return make(http)


class TestAuthorizationWithErrorsOfHubSpot(OAuthConformance):
    def make(self, http: ScriptedHttp) -> OAuthProvider:
        return make(http)

    def invalid_grant(self) -> HttpResponse:
        return HttpResponse(status=400, body=b'{"status":"BAD_REFRESH_TOKEN","message":"missing or invalid"}')


def test_the_scopes_depend_on_the_role() -> None:
    provider = make(ScriptedHttp())
    query = parse_qs(urlsplit(provider.authorization_url(REQUEST)).query)
    assert query["scope"] == [" ".join(SCOPES["Destination"])] and query["optional_scope"] == [" ".join(EVENT_SCOPES)]
    query = parse_qs(urlsplit(provider.authorization_url(msgspec.structs.replace(REQUEST, role="Source"))).query)
    assert query["scope"] == [" ".join(SCOPES["Source"])] and "optional_scope" not in query
    for scope in {*SCOPES["Source"], *SCOPES["Destination"], *EVENT_SCOPES}:
        assert f"`{scope}`" in page("hubspot")


async def test_a_user_grants_access_to_an_account() -> None:
    server = HubSpotServer()
    provider = make(ScriptedHttp(server.respond))
    tokens = await provider.exchange(CODE, "https://example.com/granted", "the-verifier")
    assert tokens.refresh_token == REFRESH_TOKEN and tokens.expires_at == NOW + timedelta(minutes=30)
    assert await provider.account(tokens) == "123"
    refreshed = await provider.refresh(REFRESH_TOKEN)
    assert refreshed.access_token != tokens.access_token
    with pytest.raises(AuthorizationRevoked):
        await provider.refresh("another")
    assert server.violations == []


async def test_a_bad_code_ends_the_authorization() -> None:
    http = ScriptedHttp(lambda _: HttpResponse(status=400, body=b'{"status":"BAD_AUTH_CODE"}'))
    with pytest.raises(AuthorizationRevoked):
        await make(http).exchange("code", "https://example.com", "")
    assert [request.url for request in http.requests] == [TOKEN_URL]


async def test_the_account_is_asked_with_the_token() -> None:
    http = ScriptedHttp(HubSpotServer().respond)
    assert await make(http).account(OAuthTokens(access_token=TOKEN)) == "123"
    with pytest.raises(Unavailable):
        await make(http).account(OAuthTokens(access_token="another"))


@pytest.mark.parametrize("body", [b"", b"{}", b'{"portalId":"x"}', b"\xff"])
async def test_a_response_without_an_account(body: bytes) -> None:
    with pytest.raises(Unavailable):
        await make(ScriptedHttp(lambda _: HttpResponse(status=200, body=body))).account(OAuthTokens(access_token="t"))


async def test_requests_of_an_account_have_its_token() -> None:
    http = ScriptedHttp(lambda _: HttpResponse(status=200, body=b'{"results":[]}'))
    sink, contacts = HubSpotSink(None, make_context(http)), HubSpotContacts(None, make_context(http))
    event = sink.encode(make_event(1, event_type=ORDER_COMPLETED, values={"email": "ada@example.com"}))
    await sink.send(sink.request([event], FIRST), [event])
    await sink.event_types()
    await contacts.write_users([UserWrite(id="", attributes={"email": "ada@example.com"}, key="1" * 32)])
    await contacts.readable_schema()
    await contacts.users("")
    assert len(http.requests) == 5
    assert all(request.authorize and "authorization" not in request.headers for request in http.requests)


def test_a_connection_has_settings_or_an_account() -> None:
    check_auth_token(CONNECTOR, "")
    check_auth_token(CONNECTOR, "token")
    assert read_settings(CONNECTOR, "Source", None, is_authorized=True) is None
    found = read_settings(CONNECTOR, "Source", SETTINGS)
    assert found is not None and found.document() == SETTINGS
    check_account_or_settings(CONNECTOR, None)
    with pytest.raises(BadRequest, match="settings must be provided"):
        read_settings(CONNECTOR, "Source", None)
    with pytest.raises(BadRequest, match="is authorized"):
        read_settings(CONNECTOR, "Source", SETTINGS, is_authorized=True)
