"""Who sends a call: by its headers, and by what its body says."""

import pytest

from headwater.base.errors import BadRequest, HeadwaterError, Unauthorized, Unprocessable
from headwater.catalog import ApiKey, Connection, digest_of
from headwater.events import DialectName
from headwater.events.call import Call
from headwater.intake.senders import NOBODY, Sender, Senders
from tests.parts import OpenParts, add_source, open_parts

TOKEN = "api_a-key-of-the-workspace"


@pytest.fixture
async def api_key(parts: OpenParts) -> ApiKey:
    async with parts.catalog.change() as change:
        key = ApiKey(
            id=change.new_id(),
            workspace=parts.workspace,
            name="CI",
            digest=digest_of(TOKEN),
            hint="",
            created_at=change.now,
        )
        change.add_api_key(key)
    return key


@pytest.mark.parametrize("dialect", ["track", "grpc", "client", "native"])
async def test_a_write_key_in_the_header_is_a_source(
    parts: OpenParts, source: Connection, dialect: DialectName
) -> None:
    (key, *_) = source.event_write_keys
    senders = Senders(parts.catalog)
    sender = await senders.by_headers(dialect, f"Bearer {key}", None)
    assert sender == Sender(key, parts.workspace, source)
    assert await senders.by_body(dialect, sender, Call(None, [], write_key="ignored")) is sender


async def test_a_write_key_in_the_body_is_a_source(parts: OpenParts, source: Connection) -> None:
    (key, *_) = source.event_write_keys
    senders = Senders(parts.catalog)
    assert await senders.by_headers("native", None, None) is NOBODY
    assert await senders.by_body("native", NOBODY, Call(None, [], write_key=key)) == Sender(
        key, parts.workspace, source
    )
    for unknown in (None, "unknown"):
        with pytest.raises(Unauthorized):
            await senders.by_body("native", NOBODY, Call(None, [], write_key=unknown))


async def test_an_api_key_is_a_workspace_and_the_body_names_the_source(
    parts: OpenParts, source: Connection, api_key: ApiKey
) -> None:
    senders = Senders(parts.catalog)
    sender = await senders.by_headers("native", f"Bearer {TOKEN}", None)
    assert sender == Sender(f"api {api_key.id}", parts.workspace)
    found = await senders.by_body("native", sender, Call(None, [], connection_id=source.id))
    assert found == Sender(sender.key, parts.workspace, source)
    with pytest.raises(BadRequest, match="connectionId is required with an API key"):
        await senders.by_body("native", sender, Call(None, []))
    with pytest.raises(Unprocessable) as refused:
        await senders.by_body("native", sender, Call(None, [], connection_id=7))
    assert (refused.value.code, refused.value.field) == ("ConnectionNotExist", "connectionId")


@pytest.mark.parametrize("dialect", ["track", "grpc", "client"])
async def test_other_dialects_know_no_api_keys(parts: OpenParts, api_key: ApiKey, dialect: DialectName) -> None:
    with pytest.raises(Unauthorized, match="the write key is not known"):
        await Senders(parts.catalog).by_headers(dialect, f"Bearer {TOKEN}", None)


async def test_a_write_key_has_one_source(parts: OpenParts, source: Connection) -> None:
    senders = Senders(parts.catalog)
    sender = await senders.by_headers("native", f"Bearer {source.event_write_keys[0]}", None)
    for who in (sender, NOBODY):
        with pytest.raises(BadRequest) as refused:
            call = Call(None, [], write_key=source.event_write_keys[0], connection_id=source.id)
            await senders.by_body("native", who, call)
        assert refused.value.field == "connectionId"


async def test_a_source_that_another_process_made_is_known_at_once(parts: OpenParts, api_key: ApiKey) -> None:
    senders = Senders(parts.catalog)
    sender = await senders.by_headers("native", f"Bearer {TOKEN}", None)
    async with open_parts(parts.folder, parts.clock) as other:
        made = await add_source(other.catalog, parts.workspace)
    found = await senders.by_body("native", sender, Call(None, [], connection_id=made.id))
    assert found.source is not None
    assert found.source.id == made.id


@pytest.mark.parametrize("authorization", ["Basic eDo=", "Bearer", "nonsense"])
async def test_the_native_dialect_takes_bearer_tokens_only(parts: OpenParts, authorization: str) -> None:
    with pytest.raises(HeadwaterError) as refused:
        await Senders(parts.catalog).by_headers("native", authorization, None)
    assert refused.value.status == 400
