"""ProfileService: lists, explains and splits profiles."""

import asyncio
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final

import msgspec
from google.api.httpbody_pb2 import HttpBody
from msgspec import Raw, Struct

from headwater.api.messages.eventquery import split_names
from headwater.api.messages.events import check_event_properties, event_messages, only_members
from headwater.api.messages.identities import identity_message
from headwater.api.messages.profilequery import profile_query, select_attributes
from headwater.api.messages.profiles import (
    change_message,
    kpid_text,
    name_text,
    parse_name,
    read_kpid,
    read_name,
    read_person,
    separation_message,
)
from headwater.api.messages.schema import type_message
from headwater.api.messages.times import set_time, time_text
from headwater.api.offloop import compute
from headwater.api.pages import DEFAULT_LIMIT, MAX_LIMIT, Page
from headwater.api.request import Context, require_workspace
from headwater.api.schemacache import SMALL_SCHEMA_PROPERTIES
from headwater.api.services.explanations import Explainer
from headwater.api.services.profileschemas import ProfileSchemaCalls
from headwater.base.clock import microseconds
from headwater.base.computing import Computing
from headwater.base.errors import BadRequest, NotFound, Unprocessable
from headwater.catalog import Catalog, Workspace
from headwater.management.executing import OperationFailed, execute
from headwater.management.lookup import find_connection
from headwater.management.names import check_identifier
from headwater.management.workspaces import find_workspace
from headwater.profiles.settings import digest
from headwater.rest.v1 import profiles_pb2 as rest_pb
from headwater.rest.v1 import profiles_pb2_grpc as rest_grpc
from headwater.schemas import Schema, serialise, walk
from headwater.state import Identity, IdentityCursor, StateStore
from headwater.state.operations import (
    NO_SEPARATION,
    OperationStore,
    RemoveSeparationParameters,
    SplitIdentity,
    SplitParameters,
    SplitResult,
)
from headwater.state.profiles import IdentityName, ProfileRow
from headwater.state.profiles.reading import ProfileReader
from headwater.state.profiles.searching import ProfileCursor, Search
from headwater.v1 import profiles_pb2 as pb
from headwater.v1 import schemas_pb2
from headwater.warehouse import EventCursor, Person, Warehouse

MAX_SPLIT: Final = 1_000
"""Maximum number of identities that one call takes out of a profile."""
MAX_FOUND: Final = 100
"""Maximum number of profiles that one id of a person finds."""
MAX_EVENT_IDENTITIES: Final = 1_000
"""Number of identities of a profile, the most recently changed, whose events are listed."""
MAX_EVENT_PERSONS: Final = 10_000
"""Maximum number of user ids and anonymous ids by which the events of a profile are found."""
_MAX_EVENT_PAGES: Final = 100
"""Maximum number of reads of the warehouse in one call, each with a limit of work."""

_NO_SCHEMA: Final = {"kind": "object", "properties": []}

_encode: Final = msgspec.json.Encoder().encode
_decode_split: Final = msgspec.json.Decoder(SplitResult).decode


class ListedProfiles(Struct, frozen=True):
    """A page of profiles."""

    workspace: Workspace
    profiles: list[tuple[ProfileRow, str]]
    """The profiles, with the attributes to show."""
    schema: Schema | None
    """The schema of these attributes; None if the workspace has none."""
    total: int
    token: str


class ProfileLists:
    """Reads profiles for the services of both packages."""

    def __init__(self, catalog: Catalog, profiles: ProfileReader, warehouse: Warehouse, computing: Computing) -> None:
        self._catalog = catalog
        self._profiles = profiles
        self._warehouse = warehouse
        self._computing = computing
        self._digests: dict[int, tuple[Workspace, str]] = {}

    async def page(
        self, request: pb.ListProfilesRequest | rest_pb.ListProfilesRequest, context: Context
    ) -> ListedProfiles:
        """Return the page of profiles that a request selects."""
        workspace = await require_workspace(self._catalog, context)
        settings = find_workspace(self._catalog, workspace)
        schema = None if settings.profile_schema is None else settings.profile_schema.schema
        page = Page(request, ProfileCursor)
        query = await compute(self._computing, f"workspace {workspace}", profile_query, request, schema)
        identifiers: tuple[str, ...] = ()
        applied = ""
        if query.filter is not None and settings.resolution.identifiers:
            identifiers = tuple(identifier.path for identifier in settings.resolution.identifiers)
            applied = await self._digest(settings)
        listed = await self._profiles.page(
            Search(
                workspace,
                query.filter,
                query.order,
                descending=request.order_desc,
                first=page.first,
                limit=page.limit,
                after=page.after,
                identifiers=identifiers,
                digest=applied,
            )
        )
        shown = [(each, select_attributes(each.attributes, query.paths)) for each in listed.profiles]
        return ListedProfiles(settings, shown, query.schema, listed.total, page.token(listed.next))

    async def _digest(self, workspace: Workspace) -> str:
        """Return the digest of the settings of a workspace. A thread computes it once for each version of them."""
        known = self._digests.get(workspace.id)
        if known is None or known[0] is not workspace:
            found = await asyncio.to_thread(digest, workspace.resolution, workspace.profile_schema)
            known = self._digests[workspace.id] = workspace, found
        return known[1]

    async def get(self, kpid: str, context: Context) -> ProfileRow:
        """Return a profile. Raises BadRequest and NotFound."""
        workspace = await require_workspace(self._catalog, context)
        return await find_profile(self._profiles, workspace, kpid)

    async def find(
        self, request: pb.FindProfilesRequest | rest_pb.FindProfilesRequest, context: Context
    ) -> list[ProfileRow]:
        """Return the profiles of the person whom a request names. Raises BadRequest and NotFound."""
        workspace = await require_workspace(self._catalog, context)
        if request.HasField("connection"):
            sources = [find_connection(self._catalog, workspace, request.connection, field="connection")]
        else:
            sources = [each for each in self._catalog.connections(workspace) if each.role == "Source"]
        names = read_person(request, (source.id for source in sources))
        return await self._profiles.find_named(workspace, names, MAX_FOUND)

    async def events(
        self, request: pb.ListProfileEventsRequest | rest_pb.ListProfileEventsRequest, context: Context
    ) -> list[bytes]:
        """Return the latest events of a profile; none if it does not exist."""
        workspace = await require_workspace(self._catalog, context)
        names = split_names(request.properties)
        check_event_properties(names)
        limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
        if not 1 <= limit <= MAX_LIMIT:
            raise BadRequest(f"limit must be in the range from 1 to {MAX_LIMIT}", field="limit")
        profile = await self._profiles.find(workspace, read_kpid(request.kpid))
        if profile is None:
            return []
        identities, _ = await self._profiles.find_identities(profile.id, first=0, limit=MAX_EVENT_IDENTITIES)
        persons = list(islice(_persons(identities), MAX_EVENT_PERSONS))
        documents: list[bytes] = []
        before: EventCursor | None = None
        for _ in range(_MAX_EVENT_PAGES):
            found = await self._warehouse.find_events(workspace, persons, before=before, limit=limit - len(documents))
            documents += found.documents
            before = found.cursor
            if before is None or len(documents) >= limit:
                break
        head = b'{"kpid":"' + kpid_text(profile.kpid).encode() + b'",'
        return [only_members(head + document[1:], names) for document in documents]


class ProfileServicer(ProfileSchemaCalls):
    """Lists, explains and splits profiles, and manages their schema."""

    def __init__(
        self,
        catalog: Catalog,
        state: StateStore,
        operations: OperationStore,
        computing: Computing,
        lists: ProfileLists,
        explainer: Explainer,
    ) -> None:
        super().__init__(catalog, state, operations, computing)
        self._profiles = state.profiles
        self._lists = lists
        self._explainer = explainer

    async def ListProfiles(self, request: pb.ListProfilesRequest, context: Context) -> pb.ListProfilesResponse:
        listed = await self._lists.page(request, context)
        response = pb.ListProfilesResponse(total=listed.total, next_page_token=listed.token)
        for profile, attributes in listed.profiles:
            message = response.profiles.add(kpid=kpid_text(profile.kpid), attributes_json=attributes)
            set_time(message, "updated_at", profile.updated_at)
        response.schema.CopyFrom(await self._schema_message(listed, has_all=not request.properties))
        return response

    async def FindProfiles(self, request: pb.FindProfilesRequest, context: Context) -> pb.FindProfilesResponse:
        response = pb.FindProfilesResponse()
        for profile in await self._lists.find(request, context):
            message = response.profiles.add(kpid=kpid_text(profile.kpid), attributes_json=profile.attributes)
            set_time(message, "updated_at", profile.updated_at)
        return response

    async def GetProfileAttributes(
        self, request: pb.GetProfileAttributesRequest, context: Context
    ) -> pb.GetProfileAttributesResponse:
        profile = await self._lists.get(request.kpid, context)
        return pb.GetProfileAttributesResponse(kpid=kpid_text(profile.kpid), attributes_json=profile.attributes)

    async def ListProfileEvents(
        self, request: pb.ListProfileEventsRequest, context: Context
    ) -> pb.ListProfileEventsResponse:
        return pb.ListProfileEventsResponse(events=event_messages(await self._lists.events(request, context)))

    async def ListProfileIdentities(
        self, request: pb.ListProfileIdentitiesRequest, context: Context
    ) -> pb.ListProfileIdentitiesResponse:
        workspace = await require_workspace(self._catalog, context)
        page = Page(request, IdentityCursor)
        profile = await self._profiles.find(workspace, read_kpid(request.kpid))
        if profile is None:
            return pb.ListProfileIdentitiesResponse()
        found, total = await self._profiles.find_identities(
            profile.id, first=page.first, limit=page.limit + 1, after=page.after
        )
        shown, token = page.cut(found, lambda each: IdentityCursor(microseconds(each.updated_at), each.id))
        return pb.ListProfileIdentitiesResponse(
            identities=map(identity_message, shown), total=total, next_page_token=token
        )

    async def ListProfileChanges(
        self, request: pb.ListProfileChangesRequest, context: Context
    ) -> pb.ListProfileChangesResponse:
        workspace = await require_workspace(self._catalog, context)
        page = Page(request, int)
        profile = await find_profile(self._profiles, workspace, request.kpid)
        found = await self._profiles.history(workspace, profile.id, limit=page.limit + 1, after=page.after)
        shown, token = page.cut(found, lambda each: each.id)
        return pb.ListProfileChangesResponse(
            kpid=kpid_text(profile.kpid),
            changes=[change_message(each.change) for each in shown],
            next_page_token=token,
        )

    async def GetProfileExplanation(
        self, request: pb.GetProfileExplanationRequest, context: Context
    ) -> pb.GetProfileExplanationResponse:
        first = read_name(request.from_identity, "from") if request.HasField("from_identity") else None
        last = read_name(request.to_identity, "to") if request.HasField("to_identity") else None
        return await self._explainer.explain(request, first, last, context)

    async def SplitProfile(self, request: pb.SplitProfileRequest, context: Context) -> pb.SplitProfileResponse:
        workspace = await require_workspace(self._catalog, context)
        names = _split_names(request)
        profile = await find_profile(self._profiles, workspace, request.kpid)
        await self._check_split(profile, names)
        identities = tuple(
            SplitIdentity(connection=name.connection, identity_id=name.identity_id, is_anonymous=name.is_anonymous)
            for name in names
        )
        parameters = SplitParameters(profile=kpid_text(profile.kpid), identities=identities)
        try:
            done = await execute(self._operations, workspace, parameters)
        except OperationFailed:
            # The profile may have changed since the check above: another call split it, or its person was erased.
            await self._check_split(await find_profile(self._profiles, workspace, request.kpid), names)
            raise
        return pb.SplitProfileResponse(kpids=_decode_split(done.result).kpids)

    async def _check_split(self, profile: ProfileRow, names: list[IdentityName]) -> None:
        """Raise Unprocessable unless the profile has all of the names, and an identity with another one."""
        named = [each for each in await self._profiles.members_named(names) if each.profile == profile.id]
        present = {member.name for member in named}
        for index, name in enumerate(names):
            if name not in present:
                message = f"the profile has no identity with {name_text(name)}"
                raise Unprocessable("IdentityNotExist", message, field=f"identities[{index}]")
        if len(await self._profiles.find_members(profile.id, len(named) + 1)) <= len(named):
            raise Unprocessable(
                "NoIdentityRemains", "a split must leave an identity in the profile", field="identities"
            )

    async def ListSeparations(self, request: pb.ListSeparationsRequest, context: Context) -> pb.ListSeparationsResponse:
        workspace = await require_workspace(self._catalog, context)
        page = Page(request, int)
        found = await self._profiles.separations(workspace, limit=page.limit + 1, after=page.after)
        shown, token = page.cut(found, lambda each: each.id)
        return pb.ListSeparationsResponse(separations=map(separation_message, shown), next_page_token=token)

    async def DeleteSeparation(
        self, request: pb.DeleteSeparationRequest, context: Context
    ) -> pb.DeleteSeparationResponse:
        workspace = await require_workspace(self._catalog, context)
        check_identifier(request.id, "separation identifier", field="id")
        missing = NotFound(f"separation {request.id} does not exist", field="id")
        if await self._profiles.separation(workspace, request.id) is None:
            raise missing
        done = await execute(self._operations, workspace, RemoveSeparationParameters(separation=request.id))
        if done.result == NO_SEPARATION:  # another call was faster
            raise missing
        return pb.DeleteSeparationResponse()

    async def _schema_message(self, listed: ListedProfiles, *, has_all: bool) -> schemas_pb2.DataType:
        """Return the schema of a page. `has_all` says whether it is that of the workspace."""
        if listed.schema is None or has_all:
            return await self._schemas.profile_schema(listed.workspace)
        if sum(1 for _ in walk(listed.schema)) <= SMALL_SCHEMA_PROPERTIES:
            return type_message(listed.schema)
        return await self._computing.run(f"workspace {listed.workspace.id}", type_message, listed.schema)


class ProfileRestServicer(rest_grpc.ProfileServiceServicer):
    """Lists and explains profiles for REST callers, who get attributes and events as JSON with every digit."""

    def __init__(self, lists: ProfileLists, explainer: Explainer) -> None:
        self._lists = lists
        self._explainer = explainer

    async def ListProfiles(self, request: rest_pb.ListProfilesRequest, context: Context) -> HttpBody:
        listed = await self._lists.page(request, context)
        return _json(
            {
                "profiles": [_document(profile, attributes) for profile, attributes in listed.profiles],
                "schema": _NO_SCHEMA if listed.schema is None else Raw(serialise(listed.schema)),
                "total": listed.total,
                "nextPageToken": listed.token,
            }
        )

    async def FindProfiles(self, request: rest_pb.FindProfilesRequest, context: Context) -> HttpBody:
        found = await self._lists.find(request, context)
        return _json({"profiles": [_document(profile, profile.attributes) for profile in found]})

    async def GetProfileAttributes(self, request: rest_pb.GetProfileAttributesRequest, context: Context) -> HttpBody:
        profile = await self._lists.get(request.kpid, context)
        return _json({"kpid": kpid_text(profile.kpid), "attributes": Raw(profile.attributes.encode())})

    async def ListProfileEvents(self, request: rest_pb.ListProfileEventsRequest, context: Context) -> HttpBody:
        documents = await self._lists.events(request, context)
        return HttpBody(content_type="application/json", data=b'{"events":[' + b",".join(documents) + b"]}")

    async def GetProfileExplanation(
        self, request: rest_pb.GetProfileExplanationRequest, context: Context
    ) -> pb.GetProfileExplanationResponse:
        first = parse_name(request.from_identity, "from") if request.HasField("from_identity") else None
        last = parse_name(request.to_identity, "to") if request.HasField("to_identity") else None
        return await self._explainer.explain(request, first, last, context)


async def find_profile(profiles: ProfileReader, workspace: int, kpid: str) -> ProfileRow:
    """Return a profile of the workspace by its id, or by that of one merged into it. Raises BadRequest and NotFound."""
    found = await profiles.find(workspace, read_kpid(kpid))
    if found is None:
        raise NotFound(f"profile {kpid} does not exist", field="kpid")
    return found


def _document(profile: ProfileRow, attributes: str) -> dict[str, object]:
    """Return a profile with these attributes as JSON values."""
    return {
        "kpid": kpid_text(profile.kpid),
        "updatedAt": time_text(profile.updated_at),
        "attributes": Raw(attributes.encode()),
    }


def _json(document: object) -> HttpBody:
    return HttpBody(content_type="application/json", data=_encode(document))


def _persons(identities: Iterable[Identity]) -> Iterator[Person]:
    """Return the persons whose events are those of the identities."""
    for identity in identities:
        if identity.user_id is not None:
            yield Person(connection=identity.connection, user_id=identity.user_id)
        for anonymous_id in identity.anonymous_ids:
            yield Person(connection=identity.connection, anonymous_id=anonymous_id)


def _split_names(request: pb.SplitProfileRequest) -> list[IdentityName]:
    """Return the names of the identities to take out. Raises BadRequest."""
    if not 1 <= len(request.identities) <= MAX_SPLIT:
        raise BadRequest(f"identities must have 1 to {MAX_SPLIT:,} elements", field="identities")
    names = [read_name(each, f"identities[{index}]") for index, each in enumerate(request.identities)]
    seen: set[IdentityName] = set()
    for index, name in enumerate(names):
        if name in seen:
            raise BadRequest(f"identities[{index}] is repeated", field=f"identities[{index}]")
        seen.add(name)
    return names
