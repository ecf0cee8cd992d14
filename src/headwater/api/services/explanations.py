"""Explains profiles: the links between their identities, and refused evidence."""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from headwater.api.messages.profiles import kpid_text, name_text, read_kpid
from headwater.api.messages.refusals import link_message, refusal_message, refused_identities
from headwater.api.pages import Page
from headwater.api.request import Context, require_workspace
from headwater.base.computing import Computing
from headwater.base.errors import BadRequest, NotFound, Unprocessable
from headwater.catalog import Catalog
from headwater.management.workspaces import find_workspace
from headwater.profiles.explaining import Step, concerning, shortest_chain, spanning_tree
from headwater.rest.v1 import profiles_pb2 as rest_pb
from headwater.state.profiles import IdentityName, Member, RefusedEvidence
from headwater.state.profiles.reading import ProfileReader
from headwater.v1 import profiles_pb2 as pb

MAX_EXPLAINED_IDENTITIES: Final = 10_000
"""Maximum number of identities of a profile that is explained."""
MAX_SHOWN_REFUSALS: Final = 100
"""Maximum number of refusals in an explanation."""
_SMALL_IDENTITIES: Final = 200
"""Number of identities up to which an explanation is computed in the event loop, which takes less than 10 ms."""

Request = pb.GetProfileExplanationRequest | rest_pb.GetProfileExplanationRequest


class LinkPlace(Struct, frozen=True, array_like=True, order=True):
    """A place in the links of a profile, in the order in which they are made; or in a chain, by its index."""

    rank: int
    younger: int = 0
    older: int = 0


class Explanation(Struct, frozen=True):
    """The links of a profile with their places, in their order, and refused evidence."""

    links: list[tuple[LinkPlace, Step]]
    refused: list[RefusedEvidence]


class Explainer:
    """Explains profiles for the services of both packages."""

    def __init__(self, catalog: Catalog, profiles: ProfileReader, computing: Computing) -> None:
        self._catalog = catalog
        self._profiles = profiles
        self._computing = computing

    async def explain(
        self, request: Request, first: IdentityName | None, last: IdentityName | None, context: Context
    ) -> pb.GetProfileExplanationResponse:
        """Return the links of a profile, or those of the chain between two identities, and refused evidence."""
        workspace = await require_workspace(self._catalog, context)
        page = Page(request, LinkPlace)
        if (first is None) != (last is None):
            raise BadRequest("from and to are given together", field="from" if first is None else "to")
        profile = await self._profiles.find(workspace, read_kpid(request.kpid))
        if profile is None:
            raise NotFound(f"profile {request.kpid} does not exist", field="kpid")
        members = await self._profiles.members_of(profile.id, MAX_EXPLAINED_IDENTITIES + 1)
        if len(members) > MAX_EXPLAINED_IDENTITIES:
            message = f"the profile has more than {MAX_EXPLAINED_IDENTITIES:,} identities"
            raise Unprocessable("TooExpensive", message)
        ends = None if first is None or last is None else (_find(members, first, "from"), _find(members, last, "to"))
        refused = await self._profiles.refused_of(workspace, members)
        explanation = await self._compute(workspace, members, refused, ends)
        shown, token = page.select(explanation.links, lambda each: each[0])
        response = pb.GetProfileExplanationResponse(kpid=kpid_text(profile.kpid), next_page_token=token)
        await self._describe(
            response,
            workspace,
            [step for _, step in shown],
            explanation.refused[:MAX_SHOWN_REFUSALS] if page.after is None else [],
        )
        return response

    async def _compute(
        self, workspace: int, members: Sequence[Member], refused: list[RefusedEvidence], ends: tuple[int, int] | None
    ) -> Explanation:
        if len(members) + len(refused) <= _SMALL_IDENTITIES:
            return explain(members, refused, ends)
        return await self._computing.run(f"workspace {workspace}", explain, members, refused, ends)

    async def _describe(
        self,
        response: pb.GetProfileExplanationResponse,
        workspace: int,
        links: list[Step],
        refused: list[RefusedEvidence],
    ) -> None:
        ids = {id_ for link in links for id_ in (link.identity, link.other)} | refused_identities(refused)
        identities = await self._profiles.identities(ids)
        holders = await self._profiles.count_holders(refused)
        settings = find_workspace(self._catalog, workspace).resolution
        response.links.extend(link_message(link, identities, settings) for link in links)
        response.refusals.extend(refusal_message(each, holders[each], identities, settings) for each in refused)


def explain(members: Sequence[Member], refused: list[RefusedEvidence], ends: tuple[int, int] | None) -> Explanation:
    """Return the links of the members of a profile, or with `ends` the chain between two of them."""
    over_limit = {each.value for each in refused if each.reason == "TooManyIdentities"}
    about = concerning(members, refused)
    if ends is None:
        links = [(_place(step), step) for step in spanning_tree(members, over_limit)]
        return Explanation(sorted(links, key=lambda each: each[0]), about)
    chain = shortest_chain(members, over_limit, *ends)
    return Explanation([(LinkPlace(index), step) for index, step in enumerate(chain or ())], about)


def _place(step: Step) -> LinkPlace:
    return LinkPlace(step.value.identifier, max(step.identity, step.other), min(step.identity, step.other))


def _find(members: Sequence[Member], name: IdentityName, field: str) -> int:
    """Return the oldest identity of a name. Raises Unprocessable with IdentityNotExist."""
    for member in members:
        if member.name == name:
            return member.identity
    raise Unprocessable("IdentityNotExist", f"the profile has no identity with {name_text(name)}", field=field)
