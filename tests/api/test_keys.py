"""API keys over gRPC: the secret is in one response only, and invalid immediately after its revocation."""

from headwater.v1 import api_keys_pb2 as pb
from headwater.v1 import connections_pb2
from tests.api.conftest import RESTRICTED, UNRESTRICTED, Api, CallError
from tests.harness import NOW, add_workspace

CREATE, LIST, DELETE = (f"ApiKeyService/{name}" for name in ("CreateApiKey", "ListApiKeys", "DeleteApiKey"))


async def works(api: Api, token: str) -> bool:
    response = await api.call("ConnectionService/ListConnections", connections_pb2.ListConnectionsRequest(), key=token)
    return not isinstance(response, CallError)


async def test_a_key_is_made_used_listed_and_revoked(api: Api) -> None:
    made = await api.call(CREATE, pb.CreateApiKeyRequest(name="CI", workspace=api.harness.workspace))
    assert await works(api, made.token)
    listed = {key.id: key for key in (await api.call(LIST, pb.ListApiKeysRequest())).keys}
    key = listed[made.id]
    assert (key.name, key.type, key.workspace) == ("CI", "API", api.harness.workspace)
    assert key.token == f"{made.token[:8]}...{made.token[-6:]}"
    assert key.created_at.ToDatetime(NOW.tzinfo) == NOW
    assert await api.call(DELETE, pb.DeleteApiKeyRequest(id=made.id)) == pb.DeleteApiKeyResponse()
    assert not await works(api, made.token)
    failed = await api.call(DELETE, pb.DeleteApiKeyRequest(id=made.id))
    assert (failed.reason, failed.metadata) == ("NotFound", (("field", "id"),))


async def test_a_key_may_revoke_itself(api: Api) -> None:
    (own,) = (await api.call(LIST, pb.ListApiKeysRequest())).keys
    await api.call(DELETE, pb.DeleteApiKeyRequest(id=own.id))
    assert not await works(api, RESTRICTED)


async def test_only_an_unrestricted_key_creates_an_unrestricted_key(api: Api) -> None:
    request = pb.CreateApiKeyRequest(name="All")
    failed = await api.call(CREATE, request)
    assert (failed.status, failed.reason) == ("PERMISSION_DENIED", "Forbidden")
    made = await api.call(CREATE, request, key=UNRESTRICTED)
    keys = (await api.call(LIST, pb.ListApiKeysRequest(), key=UNRESTRICTED)).keys
    assert [key.HasField("workspace") for key in keys if key.id == made.id] == [False]
    assert len(keys) == 3
    assert len((await api.call(LIST, pb.ListApiKeysRequest())).keys) == 1


async def test_rejected_requests(api: Api) -> None:
    other = await add_workspace(api.harness.catalog)
    for request, key, reason, field in (
        (pb.CreateApiKeyRequest(name="", workspace=api.harness.workspace), RESTRICTED, "BadRequest", "name"),
        (pb.CreateApiKeyRequest(name="x", workspace=0), RESTRICTED, "BadRequest", "workspace"),
        (pb.CreateApiKeyRequest(name="x", workspace=other.id), RESTRICTED, "Forbidden", None),
        (pb.CreateApiKeyRequest(name="x", workspace=1), UNRESTRICTED, "WorkspaceNotExist", "workspace"),
        (pb.CreateApiKeyRequest(name="x", type="MCP"), UNRESTRICTED, "BadRequest", "type"),
    ):
        failed = await api.call(CREATE, request, key=key)
        assert (failed.reason, dict(failed.metadata).get("field")) == (reason, field), request
    for id_ in (0, -1):
        assert (await api.call(DELETE, pb.DeleteApiKeyRequest(id=id_))).reason == "BadRequest"
