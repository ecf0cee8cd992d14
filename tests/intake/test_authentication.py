"""Authentication of calls, by their headers and by their body."""

import pytest

from headwater.base.errors import BadRequest, HeadwaterError, Unauthorized, Unprocessable
from headwater.base.identifiers import Identifiers
from headwater.catalog import ApiKey, Connection, api_key_digest, open_catalog
from headwater.events import ProtocolName
from headwater.events.protocol import Call
from headwater.intake.authentication import ANONYMOUS, Authenticator, Principal
from headwater.storage.database import sqlite_url
from tests.harness import KEYRING, Harness, add_source, add_workspace, open_harness

TOKEN = "api_a-key-of-the-workspace"


@pytest.fixture
async def api_key(harness: Harness) -> ApiKey:
    async with harness.catalog.change() as change:
        key = ApiKey(
            id=change.new_id(),
            workspace=harness.workspace,
            name="CI",
            digest=api_key_digest(TOKEN),
            hint="",
            created_at=change.now,
        )
        change.add_api_key(key)
    return key


@pytest.mark.parametrize("protocol", ["track", "grpc", "client", "native"])
async def test_a_write_key_in_the_header_is_a_source(
    harness: Harness, source: Connection, protocol: ProtocolName
) -> None:
    (key, *_) = source.event_write_keys
    authenticator = Authenticator(harness.catalog)
    principal = await authenticator.from_headers(protocol, f"Bearer {key}", None)
    assert principal == Principal(key, harness.workspace, source)
    assert await authenticator.from_body(protocol, principal, Call(None, [], write_key="ignored")) is principal


@pytest.mark.parametrize("protocol", ["track", "grpc"])
async def test_a_write_key_in_its_own_header_counts_without_another_header(
    harness: Harness, source: Connection, protocol: ProtocolName
) -> None:
    (key, *_) = source.event_write_keys
    authenticator = Authenticator(harness.catalog)
    principal = await authenticator.from_headers(protocol, None, None, f"shop:{key}")
    assert principal == Principal(key, harness.workspace, source)
    assert await authenticator.from_headers(protocol, f"Bearer {key}", None, "unknown") == principal
    with pytest.raises(Unauthorized):
        await authenticator.from_headers(protocol, None, None, "unknown")


@pytest.mark.parametrize("protocol", ["client", "native"])
async def test_protocols_with_a_bearer_token_take_no_other_header(
    harness: Harness, source: Connection, protocol: ProtocolName
) -> None:
    found = await Authenticator(harness.catalog).from_headers(protocol, None, None, source.event_write_keys[0])
    assert found is ANONYMOUS


async def test_a_write_key_in_the_body_is_a_source(harness: Harness, source: Connection) -> None:
    (key, *_) = source.event_write_keys
    authenticator = Authenticator(harness.catalog)
    assert await authenticator.from_headers("native", None, None) is ANONYMOUS
    assert await authenticator.from_body("native", ANONYMOUS, Call(None, [], write_key=key)) == Principal(
        key, harness.workspace, source
    )
    for unknown in (None, "unknown"):
        with pytest.raises(Unauthorized):
            await authenticator.from_body("native", ANONYMOUS, Call(None, [], write_key=unknown))


async def test_an_api_key_opens_a_workspace_that_another_process_has_just_created(harness: Harness) -> None:
    url = sqlite_url(harness.folder / "catalog.db")
    async with open_catalog(url, clock=harness.clock, identifiers=Identifiers(), keyring=KEYRING) as other:
        async with other.change() as change:
            key = ApiKey(
                id=change.new_id(),
                workspace=None,
                name="All",
                digest=api_key_digest(TOKEN),
                hint="",
                created_at=change.now,
            )
            change.add_api_key(key)
        await harness.catalog.refresh()
        workspace = await add_workspace(other, "New")
    principal = await Authenticator(harness.catalog).from_headers("native", f"Bearer {TOKEN}", str(workspace.id))
    assert principal == Principal(f"api {key.id}", workspace.id)


async def test_an_api_key_is_a_workspace_and_the_body_names_the_source(
    harness: Harness, source: Connection, api_key: ApiKey
) -> None:
    authenticator = Authenticator(harness.catalog)
    principal = await authenticator.from_headers("native", f"Bearer {TOKEN}", None)
    assert principal == Principal(f"api {api_key.id}", harness.workspace)
    found = await authenticator.from_body("native", principal, Call(None, [], connection_id=source.id))
    assert found == Principal(principal.key, harness.workspace, source)
    with pytest.raises(BadRequest, match="connectionId is required with an API key"):
        await authenticator.from_body("native", principal, Call(None, []))
    with pytest.raises(Unprocessable) as rejected:
        await authenticator.from_body("native", principal, Call(None, [], connection_id=7))
    assert (rejected.value.code, rejected.value.field) == ("ConnectionNotExist", "connectionId")


@pytest.mark.parametrize("protocol", ["track", "grpc", "client"])
async def test_other_dialects_know_no_api_keys(harness: Harness, api_key: ApiKey, protocol: ProtocolName) -> None:
    with pytest.raises(Unauthorized, match="the write key is not known"):
        await Authenticator(harness.catalog).from_headers(protocol, f"Bearer {TOKEN}", None)


async def test_a_write_key_has_one_source(harness: Harness, source: Connection) -> None:
    authenticator = Authenticator(harness.catalog)
    principal = await authenticator.from_headers("native", f"Bearer {source.event_write_keys[0]}", None)
    for who in (principal, ANONYMOUS):
        with pytest.raises(BadRequest) as rejected:
            call = Call(None, [], write_key=source.event_write_keys[0], connection_id=source.id)
            await authenticator.from_body("native", who, call)
        assert rejected.value.field == "connectionId"


async def test_a_source_that_another_process_made_is_known_immediately(harness: Harness, api_key: ApiKey) -> None:
    authenticator = Authenticator(harness.catalog)
    principal = await authenticator.from_headers("native", f"Bearer {TOKEN}", None)
    async with open_harness(harness.folder, harness.clock) as other:
        made = await add_source(other.catalog, harness.workspace)
    found = await authenticator.from_body("native", principal, Call(None, [], connection_id=made.id))
    assert found.source is not None
    assert found.source.id == made.id


@pytest.mark.parametrize("authorization", ["Basic eDo=", "Bearer", "nonsense"])
async def test_the_native_protocol_takes_bearer_tokens_only(harness: Harness, authorization: str) -> None:
    with pytest.raises(HeadwaterError) as rejected:
        await Authenticator(harness.catalog).from_headers("native", authorization, None)
    assert rejected.value.status == 400
