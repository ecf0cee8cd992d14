"""Refuses identifiers with an unpaired surrogate.

`headwater.events.wellformed` replaces every unpaired surrogate by U+FFFD. In an identifier that would make one of two
that differ: two messages would count as one, or two people.
"""

from typing import Final

import msgspec
from msgspec import Raw

from headwater.events.protocol import Rejection
from headwater.events.raw import ABSENT
from headwater.events.wire import IDS, MEMBERS

RULE: Final = "contains an unpaired surrogate"

_Ids: Final = msgspec.defstruct("_Ids", [(field, Raw, ABSENT) for field in IDS], rename="camel")
_decode_ids: Final = msgspec.json.Decoder(_Ids).decode


def refuse_unpaired_surrogates(events: list[Raw], counterparts: list[Raw]) -> dict[int, Rejection]:
    """Return a refusal for each event that has such an identifier, by its number.

    `counterparts` are the same events with another character in place of each unpaired surrogate.
    """
    rejected: dict[int, Rejection] = {}
    for index, (event, counterpart) in enumerate(zip(events, counterparts, strict=True)):
        if bytes(event) != bytes(counterpart) and (field := _different_id(event, counterpart)) is not None:
            rejected[index] = Rejection("BadRequest", MEMBERS[field], f"{MEMBERS[field]} {RULE}")
    return rejected


def _different_id(event: Raw, counterpart: Raw) -> str | None:
    try:
        ids, others = _decode_ids(event), _decode_ids(counterpart)
    except msgspec.ValidationError:  # it is no object, and refused for that
        return None
    return next((field for field in IDS if bytes(getattr(ids, field)) != bytes(getattr(others, field))), None)
