"""IdentityService: the identities that a connection has brought."""

from headwater.api.messages.identities import identity_message
from headwater.api.pages import Page
from headwater.api.request import Context, require_workspace
from headwater.base.clock import microseconds
from headwater.catalog import Catalog
from headwater.management import connections
from headwater.state import Identity, IdentityCursor, StateStore
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
        workspace = await require_workspace(self._catalog, context)
        connection = await connections.get_connection(self._catalog, workspace, request.id)
        page = Page(request, IdentityCursor)
        identities, total = await self._state.identities(
            connection.id, first=page.first, limit=page.limit + 1, after=page.after
        )
        shown, token = page.cut(identities, _cursor)
        return pb.ListConnectionIdentitiesResponse(
            identities=[identity_message(identity) for identity in shown], total=total, next_page_token=token
        )


def _cursor(identity: Identity) -> IdentityCursor:
    return IdentityCursor(microseconds(identity.updated_at), identity.id)
