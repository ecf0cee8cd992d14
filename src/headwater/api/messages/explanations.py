"""The explanation of a profile: the links of its identities with their places in lists, and refused evidence."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

import msgspec
from msgspec import Struct

from headwater.base.computing import Computing
from headwater.profiles.explaining import Step, concerning, shortest_chain, spanning_tree
from headwater.state.profiles import Member, RefusedEvidence

MAX_SHOWN_REFUSALS: Final = 100
"""Maximum amount of refused evidence in an explanation."""
SMALL_MEMBERS: Final = 200
"""Number of members up to which an explanation is computed on the event loop, in less than 10 ms."""


class LinkPlace(Struct, frozen=True, array_like=True, order=True):
    """A place in the links of a profile, in the order in which they are made; or in a chain, by its index."""

    rank: int
    younger: int = 0
    older: int = 0


class Explanation(Struct, frozen=True):
    """The links of a profile with their places, in their order, and refused evidence."""

    links: list[tuple[LinkPlace, Step]]
    refused: list[RefusedEvidence]


class Question(Struct, frozen=True, kw_only=True):
    """A question about the members of a profile, with the refused evidence of these and of their values."""

    members: Sequence[Member]
    refused: Sequence[RefusedEvidence]
    ends: tuple[int, int] | None
    """The identities between which the chain is wanted; None for all links."""
    after: LinkPlace | None
    """The place after which the links begin; None for the first."""
    limit: int
    """Maximum number of links."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode_question: Final = msgspec.msgpack.Decoder(Question).decode
_decode_answer: Final = msgspec.msgpack.Decoder(Explanation).decode


def explain(question: Question) -> Explanation:
    """Return the links that a question is about, and at most `MAX_SHOWN_REFUSALS` pieces of refused evidence."""
    over_limit = {each.value for each in question.refused if each.reason == "TooManyIdentities"}
    if question.ends is None:
        links = [(_place(step), step) for step in spanning_tree(question.members, over_limit)]
        links.sort(key=_first)
    else:
        chain = shortest_chain(question.members, over_limit, *question.ends) or []
        links = [(LinkPlace(index), step) for index, step in enumerate(chain)]
    start = 0 if question.after is None else bisect_right(links, question.after, key=_first)
    shown = concerning(question.members, question.refused)[:MAX_SHOWN_REFUSALS]
    return Explanation(links[start : start + question.limit], shown)


async def compute_explanation(computing: Computing, owner: str, question: Question) -> Explanation:
    """Return the explanation, computed in another process if the profile is large. Raises as `Computing.run` does."""
    if len(question.members) + len(question.refused) <= SMALL_MEMBERS:
        return explain(question)
    # As bytes: pickling thousands of members would take 50 ms of the event loop.
    return _decode_answer(await computing.run(owner, answer_question, _encode(question)))


def answer_question(question: bytes) -> bytes:
    """Return the explanation for a question, both encoded."""
    return _encode(explain(_decode_question(question)))


def _place(step: Step) -> LinkPlace:
    return LinkPlace(step.value.identifier, max(step.identity, step.other), min(step.identity, step.other))


def _first(link: tuple[LinkPlace, Step]) -> LinkPlace:
    return link[0]
