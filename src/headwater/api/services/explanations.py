"""Explains profiles: the links between their identities, and refused evidence."""

from collections.abc import Sequence
from typing import Final

from headwater.api.messages.explanations import MAX_SHOWN_REFUSALS, LinkPlace, Question, compute_explanation
from headwater.api.messages.profiles import kpid_text, name_text, read_kpid
from headwater.api.messages.refusals import link_message, refusal_message, refused_identities
from headwater.api.pages import Page
from headwater.api.request import Context, require_workspace
from headwater.base.computing import Computing
from headwater.base.errors import BadRequest, NotFound, Unprocessable
from headwater.catalog import Catalog
from headwater.management.workspaces import find_workspace
from headwater.profiles.evidence import EvidenceReader
from headwater.profiles.explaining import Step
from headwater.rest.v1 import profiles_pb2 as rest_pb
from headwater.state.profiles import IdentityName, LinkValue, Member, RefusedEvidence
from headwater.state.profiles.reading import ProfileReader
from headwater.v1 import profiles_pb2 as pb

MAX_EXPLAINED_IDENTITIES: Final = 3_000
"""Maximum number of identities of a profile that is explained: reading them takes 10 ms of the event loop."""

BLOCKED_PER_STEP: Final = 300
"""Number of identities whose blocked values are found without a pause: 5 ms of the event loop."""

Request = pb.GetProfileExplanationRequest | rest_pb.GetProfileExplanationRequest


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
        members = await self._profiles.find_members(profile.id, MAX_EXPLAINED_IDENTITIES + 1)
        if len(members) > MAX_EXPLAINED_IDENTITIES:
            message = f"the profile has more than {MAX_EXPLAINED_IDENTITIES:,} identities"
            raise Unprocessable("TooExpensive", message)
        ends = None if first is None or last is None else (_find(members, first, "from"), _find(members, last, "to"))
        refused = await self._profiles.find_refused(workspace, members)
        question = Question(members=members, refused=refused, ends=ends, after=page.after, limit=page.limit + 1)
        blocked = await self._blocked(workspace, members) if page.after is None else []
        explanation = await compute_explanation(self._computing, f"workspace {workspace}", question)
        shown, token = page.cut(explanation.links, lambda each: each[0])
        response = pb.GetProfileExplanationResponse(kpid=kpid_text(profile.kpid), next_page_token=token)
        await self._describe(
            response,
            workspace,
            [step for _, step in shown],
            [*blocked, *explanation.refused][:MAX_SHOWN_REFUSALS] if page.after is None else [],
        )
        return response

    async def _blocked(self, workspace: int, members: Sequence[Member]) -> list[RefusedEvidence]:
        """Return the refused evidence of the blocked values of members, at most `MAX_SHOWN_REFUSALS`.

        Members lack the values, so they are read from the attributes.
        """
        present = find_workspace(self._catalog, workspace)
        schema = present.profile_schema
        reader = EvidenceReader(present.resolution, None if schema is None else schema.schema)
        if not reader.has_blocks:
            return []
        values: set[LinkValue] = set()
        for start in range(0, len(members), BLOCKED_PER_STEP):
            some = {member.identity for member in members[start : start + BLOCKED_PER_STEP]}
            for identity in (await self._profiles.identities(some)).values():
                values.update(reader.blocked(identity.attributes))
        found = await self._profiles.blocked(workspace, sorted(values, key=_place)[:MAX_SHOWN_REFUSALS])
        return sorted(found, key=lambda each: _place(each.value))

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


def _place(value: LinkValue) -> tuple[int, str]:
    return value.identifier, value.value


def _find(members: Sequence[Member], name: IdentityName, field: str) -> int:
    """Return the oldest identity of a name. Raises Unprocessable with IdentityNotExist."""
    for member in members:
        if member.name == name:
            return member.identity
    raise Unprocessable("IdentityNotExist", f"the profile has no identity with {name_text(name)}", field=field)
