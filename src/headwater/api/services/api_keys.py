"""ApiKeyService: the secrets that open this API."""

from msgspec import Struct

from headwater.api.pages import NO_LIMIT, Page
from headwater.api.request import Context, require_caller
from headwater.base.clock import microseconds
from headwater.catalog import ApiKey, Catalog
from headwater.management import api_keys
from headwater.management.quotas import Quotas
from headwater.v1 import api_keys_pb2 as pb
from headwater.v1 import api_keys_pb2_grpc


class ApiKeyCursor(Struct, frozen=True, array_like=True, order=True):
    """A place in a list of keys: after this time of creation, in microseconds since the epoch, and id."""

    created_at: int
    id: int


class ApiKeyServicer(api_keys_pb2_grpc.ApiKeyServiceServicer):
    """Create, list and revoke API keys."""

    def __init__(self, catalog: Catalog, quotas: Quotas) -> None:
        self._catalog = catalog
        self._quotas = quotas

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Context) -> pb.ListApiKeysResponse:
        caller = await require_caller(self._catalog, context)
        page = Page(request, ApiKeyCursor, default_limit=NO_LIMIT)
        keys, token = page.select(api_keys.list_api_keys(self._catalog, caller.key), _cursor)
        return pb.ListApiKeysResponse(keys=[key_message(key) for key in keys], next_page_token=token)

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Context) -> pb.CreateApiKeyResponse:
        caller = await require_caller(self._catalog, context)
        created = await api_keys.create_api_key(
            self._catalog,
            caller.key,
            request.name,
            request.workspace if request.HasField("workspace") else None,
            request.type if request.HasField("type") else "API",
            request.access if request.HasField("access") else "Full",
            self._quotas,
        )
        return pb.CreateApiKeyResponse(id=created.key.id, token=created.token)

    async def DeleteApiKey(self, request: pb.DeleteApiKeyRequest, context: Context) -> pb.DeleteApiKeyResponse:
        caller = await require_caller(self._catalog, context)
        await api_keys.delete_api_key(self._catalog, caller.key, request.id)
        return pb.DeleteApiKeyResponse()


def _cursor(key: ApiKey) -> ApiKeyCursor:
    return ApiKeyCursor(microseconds(key.created_at), key.id)


def key_message(key: ApiKey) -> pb.ApiKey:
    """Return a key without its secret."""
    message = pb.ApiKey(
        id=key.id, workspace=key.workspace, name=key.name, type="API", token=key.hint, access=key.access
    )
    message.created_at.FromDatetime(key.created_at)
    return message
