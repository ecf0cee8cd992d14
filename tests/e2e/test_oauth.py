"""OAuth through real Envoy: the requests of the documentation, and secrets that appear nowhere."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.source import get
from tests.e2e.test_management import make, read_error, send
from tests.oauthprovider import CLIENT_ID, CLIENT_SECRET, REDIRECT_URI, OAuthProvider, open_oauth_provider
from tests.postgresql import PostgresqlServer
from tests.system import HTTP, RunningSystem, start

APP = "sample-oauth-app"
SCHEMA = '{"kind":"object","properties":[{"name":"id","type":{"kind":"string"}}]}'


@pytest.fixture
def provider() -> Iterator[OAuthProvider]:
    with open_oauth_provider() as provider:
        yield provider


def start_with(provider: OAuthProvider, folder: Path, database_url: str | None) -> RunningSystem:
    variables = {
        "HEADWATER_OAUTH_SAMPLE_OAUTH_APP_CLIENT_ID": CLIENT_ID,
        "HEADWATER_OAUTH_SAMPLE_OAUTH_APP_CLIENT_SECRET": CLIENT_SECRET,
        "HEADWATER_OAUTH_SAMPLE_OAUTH_APP_URL": f"{provider.url}/",
        "HEADWATER_ALLOW_PRIVATE_DESTINATIONS": "1",
        "HEADWATER_LOG_LEVEL": "debug",
        **({} if database_url is None else {"HEADWATER_DATABASE_URL": database_url}),
    }
    return start(folder / "data", None, **variables)


def auth_url(system: RunningSystem, role: str = "Source", **more: str) -> str:
    parameters = {"connector": APP, "role": role, "redirectURI": REDIRECT_URI, **more}
    found = HTTP.get(f"{system.base_url}/v1/connections/auth-url", params=parameters, headers=system.authorization)
    assert found.status_code == 200, found.text
    return str(found.json()["authUrl"])


def auth_token(system: RunningSystem, method: str, **members: str) -> Any:
    given = {"connector": APP, "redirectURI": REDIRECT_URI, **members}
    url = f"{system.base_url}/v1/connections/auth-token"
    if method == "GET":
        return HTTP.get(url, headers=system.authorization, params=given, timeout=30)
    return HTTP.post(url, headers=system.authorization, json=given, timeout=30)


def users(system: RunningSystem, connection: int) -> Any:
    return send(system, "GET", f"/v1/connections/{connection}/users?schema={SCHEMA}")


def test_every_step_and_no_secret_anywhere(
    provider: OAuthProvider, tmp_path: Path, database_url: str | None, request: pytest.FixtureRequest
) -> None:
    system = start_with(provider, tmp_path, database_url)
    answers = []
    try:
        connector = get(system, f"/v1/connectors/{APP}")
        assert connector["oauth"] == {"configured": True, "disallow127_0_0_1": False, "disallowLocalhost": False}
        granted = provider.consent(auth_url(system))
        by_get = auth_token(system, "GET", authCode=granted["code"])
        granted = provider.consent(auth_url(system, "Destination", pkce="true"))
        by_post = auth_token(system, "POST", authCode=granted["code"], state=granted["state"])
        replayed = auth_token(system, "POST", authCode=granted["code"], state=granted["state"])
        assert read_error(replayed) == (400, "BadRequest")
        answers += [by_get.text, by_post.text, replayed.text]
        source = make(system, APP, "Source", authToken=by_get.json()["authToken"])
        destination = make(system, APP, "Destination", sendingMode="Server", authToken=by_post.json()["authToken"])
        found = users(system, source)
        assert [user["id"] for user in found.json()["users"]] == ["u0", "u1", "u2"]
        provider.behaviour.rotate = provider.behaviour.reuse_ends_family = True
        provider.end_access_tokens()
        assert users(system, source).status_code == 200 and provider.refreshes == 1
        provider.end_access_tokens()
        provider.behaviour.rejects_access_tokens = True
        rejected = [users(system, source) for _ in range(2)]
        assert [read_error(each) for each in rejected] == [(503, "ServiceUnavailable")] * 2
        answers += [each.text for each in rejected]
        answers += [send(system, "GET", f"/v1/connections/{id_}").text for id_ in (source, destination)]
        assert read_error(
            send(system, "POST", "/v1/connections", {"connector": APP, "name": "x", "role": "Source"})
        ) == (
            400,
            "BadRequest",
        )
        _check_nowhere(provider.secrets, *(answer.encode() for answer in answers))
        if database_url is not None:
            server: PostgresqlServer = request.getfixturevalue("postgresql_server")
            dump = server.dump(database_url)
            assert b"oauth_accounts" in dump
            _check_nowhere(provider.secrets, dump)
        check_documented_errors(system)
        for id_ in (source, destination):
            assert send(system, "DELETE", f"/v1/connections/{id_}").status_code == 200
    finally:
        assert system.stop() == 0, system.errors
    files = [path for path in system.data_dir.rglob("*") if path.is_file()]
    assert any(path.name == "stderr.txt" for path in files)
    _check_nowhere(provider.secrets, *(path.read_bytes() for path in files))


def check_documented_errors(system: RunningSystem) -> None:
    for path, expected in (
        (f"auth-url?connector={APP}&role=Source&redirectURI=http://example.com/", (400, "BadRequest")),
        (f"auth-url?connector={APP}&role=Source", (400, "BadRequest")),
        (f"auth-url?connector={APP}&role=x&redirectURI={REDIRECT_URI}", (400, "BadRequest")),
        (f"auth-url?connector={APP}&role=Source&redirectURI={REDIRECT_URI}&state=x", (400, "BadRequest")),
        (
            f"auth-token?connector={APP}&redirectURI={REDIRECT_URI}&authCode=no-such-code",
            (503, "ServiceUnavailable"),
        ),
        (
            f"auth-token?connector={APP}&redirectURI={REDIRECT_URI}&authCode=no-such-code&state=y",
            (400, "BadRequest"),
        ),
    ):
        assert read_error(send(system, "GET", f"/v1/connections/{path}")) == expected, path
    assert read_error(auth_token(system, "POST", connector="fax", authCode="no-such-code")) == (
        422,
        "ConnectorNotExist",
    )
    assert read_error(auth_token(system, "POST", authCode="")) == (400, "BadRequest")
    body = {"name": "x", "role": "Source", "connector": APP, "authToken": "jK64q6Vu0DMoqpXm0M+/6qbZagaVipMsRZ"}
    assert read_error(send(system, "POST", "/v1/connections", body)) == (400, "BadRequest")


def _check_nowhere(secrets: set[str], *places: bytes) -> None:
    """Check that the bytes contain no secret, as text or in hexadecimal digits, as pg_dump shows binary values."""
    for secret in secrets:
        for form in (secret.encode(), secret.encode().hex().encode()):
            assert not any(form in place for place in places)
