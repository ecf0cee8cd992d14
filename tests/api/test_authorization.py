"""OAuth over gRPC: all steps with a real authorization server, and the documented errors."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace

import pytest
from grpc import aio

from headwater.api import ERROR_BODIES, LENIENT_SERVICES, ErrorInterceptor, register
from headwater.api.messages.schema import type_message
from headwater.connectors.addresses import ANY_ADDRESS
from headwater.connectors.environment import ConnectorEnvironment
from headwater.connectors.sample_oauth_app.users import READABLE_SCHEMA
from headwater.v1 import applications_pb2, connectors_pb2
from headwater.v1 import connections_pb2 as pb
from tests.api.conftest import REST, UNRESTRICTED, Api, services
from tests.harness import Harness
from tests.oauthprovider import REDIRECT_URI, OAuthProvider, open_oauth_provider

APP = "sample-oauth-app"
AUTH_URL = "ConnectionService/GetAuthorizationUrl"
AUTH_TOKEN = "ConnectionService/GetAuthorizationToken"
CREATE = "ConnectionService/CreateConnection"
GET_CONNECTOR = "ConnectorService/GetConnector"


@pytest.fixture
def provider() -> Iterator[OAuthProvider]:
    with open_oauth_provider() as provider:
        yield provider


@pytest.fixture
async def authorizing(harness: Harness, provider: OAuthProvider) -> AsyncIterator[Api]:
    """An API with an OAuth client of the provider."""
    environment = ConnectorEnvironment(addresses=ANY_ADDRESS, clock=harness.clock, oauth_clients={APP: provider.client})
    server = aio.server(interceptors=[ErrorInterceptor(ERROR_BODIES, lenient=LENIENT_SERVICES)])
    register(server, replace(services(harness), environment=environment, allowed_redirect_uris=(REDIRECT_URI,)))
    address = f"unix:{harness.folder}/authorizing.sock"
    server.add_insecure_port(address)
    await server.start()
    async with aio.insecure_channel(address) as channel:
        yield Api(harness, channel)
    await server.stop(None)


def url_request(**changes: object) -> pb.GetAuthorizationUrlRequest:
    return pb.GetAuthorizationUrlRequest(
        **{"connector": APP, "role": "Source", "redirect_uri": REDIRECT_URI, **changes}  # type: ignore[arg-type]
    )


def token_request(**changes: object) -> pb.GetAuthorizationTokenRequest:
    return pb.GetAuthorizationTokenRequest(
        **{"connector": APP, "redirect_uri": REDIRECT_URI, "auth_code": "x", **changes}  # type: ignore[arg-type]
    )


async def test_all_steps(authorizing: Api, provider: OAuthProvider) -> None:
    page = await authorizing.call(AUTH_URL, url_request(pkce=True))
    granted = provider.consent(page.auth_url)
    token = await authorizing.call(AUTH_TOKEN, token_request(auth_code=granted["code"], state=granted["state"]))
    request = pb.CreateConnectionRequest(name="Shop", role="Source", connector=APP, auth_token=token.auth_token)
    made = await authorizing.call(CREATE, request)
    users = await authorizing.call(
        "ApplicationService/ListApplicationUsers",
        applications_pb2.ListApplicationUsersRequest(id=made.id, schema=type_message(READABLE_SCHEMA)),
    )
    assert len(users.users_json) == 3
    shown = await authorizing.call("ConnectionService/GetConnection", pb.GetConnectionRequest(id=made.id))
    assert not any(secret in f"{token}{shown}{users}" for secret in provider.secrets)
    again = await authorizing.call(AUTH_TOKEN, token_request(auth_code=granted["code"], state=granted["state"]))
    assert (again.reason, again.metadata) == ("BadRequest", (("field", "state"),))
    update = pb.UpdateConnectionRequest(id=made.id, name="Shop", auth_token=token.auth_token)
    assert await authorizing.call("ConnectionService/UpdateConnection", update) == pb.UpdateConnectionResponse()


@pytest.mark.parametrize(
    ("call", "request_", "status", "reason", "field"),
    [
        (AUTH_URL, url_request(connector="fax"), 404, "NotFound", "connector"),
        (AUTH_URL, url_request(connector=""), 404, "NotFound", "connector"),
        (AUTH_URL, url_request(role="x"), 400, "BadRequest", "role"),
        (AUTH_URL, url_request(connector="klaviyo"), 400, "BadRequest", "connector"),
        (AUTH_URL, url_request(redirect_uri=""), 400, "BadRequest", "redirectURI"),
        (AUTH_URL, url_request(redirect_uri="https://example.com/other"), 400, "BadRequest", "redirectURI"),
        (AUTH_TOKEN, token_request(connector=""), 400, "BadRequest", "connector"),
        (AUTH_TOKEN, token_request(auth_code=""), 400, "BadRequest", "authCode"),
        (AUTH_TOKEN, token_request(redirect_uri=""), 400, "BadRequest", "redirectURI"),
        (AUTH_TOKEN, token_request(state="x"), 400, "BadRequest", "state"),
        (AUTH_TOKEN, token_request(connector="fax"), 422, "ConnectorNotExist", "connector"),
        (AUTH_TOKEN, token_request(connector="klaviyo"), 400, "BadRequest", "connector"),
        (AUTH_TOKEN, token_request(), 503, "ServiceUnavailable", None),
        (CREATE, pb.CreateConnectionRequest(name="x", role="Source", connector=APP), 400, "BadRequest", "authToken"),
        (
            CREATE,
            pb.CreateConnectionRequest(name="x", role="Source", connector=APP, auth_token="x"),
            400,
            "BadRequest",
            "authToken",
        ),
        (
            CREATE,
            pb.CreateConnectionRequest(name="x", role="Source", connector="dummy", auth_token="x"),
            400,
            "BadRequest",
            "authToken",
        ),
    ],
)
async def test_the_documented_errors(
    authorizing: Api, call: str, request_: object, status: int, reason: str, field: str | None
) -> None:
    failed = await authorizing.call(call, request_)
    assert failed.reason == reason
    if field is not None:
        assert failed.metadata == (("field", field),)
    over_rest = await authorizing.call(call, request_, REST)
    assert over_rest.http[0] == status and over_rest.http[1]["error"]["code"] == reason


async def test_a_workspace_is_needed_for_the_token_only(authorizing: Api, provider: OAuthProvider) -> None:
    page = await authorizing.call(AUTH_URL, url_request(), key=UNRESTRICTED)
    granted = provider.consent(page.auth_url)
    request = token_request(auth_code=granted["code"], state=granted["state"])
    assert (await authorizing.call(AUTH_TOKEN, request, key=UNRESTRICTED)).reason == "Forbidden"
    assert (await authorizing.call(AUTH_TOKEN, request)).reason == "BadRequest", "another key has made it"
    workspace = ("headwater-workspace", str(authorizing.harness.workspace))
    assert (await authorizing.call(AUTH_TOKEN, request, workspace, key=UNRESTRICTED)).auth_token


async def test_the_sample_is_listed_where_it_has_a_client(authorizing: Api, api: Api) -> None:
    connector = await authorizing.call(GET_CONNECTOR, connectors_pb2.GetConnectorRequest(code=APP))
    assert connector.available and connector.oauth.configured
    listed = await authorizing.call("ConnectorService/ListConnectors", connectors_pb2.ListConnectorsRequest())
    assert connector in listed.connectors
    assert [each.code for each in listed.connectors if each.HasField("oauth") and each.oauth.configured] == [APP]
    assert (await api.call(GET_CONNECTOR, connectors_pb2.GetConnectorRequest(code=APP))).reason == "NotFound"
    assert (await api.call(AUTH_URL, url_request())).reason == "ServiceUnavailable"
