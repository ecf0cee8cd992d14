"""IdentityService: who has been seen through a connection."""

from headwater.api.pages import page_of
from headwater.api.request import Context, workspace_of
from headwater.catalog import Catalog
from headwater.management import connections
from headwater.state import Identity, StateStore
from headwater.v1 import identities_pb2 as pb
from headwater.v1 import identities_pb2_grpc


class IdentityServicer(identities_pb2_grpc.IdentityServiceServicer):
    """Lists identities."""

    def __init__(self, catalog: Catalog, state: StateStore) -> None:
        self._catalog = catalog
        self._state = state

    async def ListConnectionIdentities(
        self, request: pb.ListConnectionIdentitiesRequest, context: Context
    ) -> pb.ListConnectionIdentitiesResponse:
        workspace = await workspace_of(self._catalog, context)
        connection = await connections.get_connection(self._catalog, workspace, request.id)
        first, limit = page_of(
            request.first if request.HasField("first") else None, request.limit if request.HasField("limit") else None
        )
        identities, total = await self._state.identities(connection.id, first=first, limit=limit)
        return pb.ListConnectionIdentitiesResponse(
            identities=[_message(identity) for identity in identities], total=total
        )


def _message(identity: Identity) -> pb.Identity:
    message = pb.Identity(
        user_id=identity.user_id,
        anonymous_ids=identity.anonymous_ids,
        connection=identity.connection,
        pipeline=identity.pipeline,
    )
    message.updated_at.FromDatetime(identity.updated_at)
    return message
