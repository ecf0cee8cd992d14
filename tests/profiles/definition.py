"""The definition of profiles, applied to all pairs of identities: the oracle of the tests.

It shares no code with the package, apart from the structs of rows.
"""

import json
from collections import Counter
from itertools import combinations
from typing import Any

from msgspec import Struct

from headwater.catalog.profiles import ProfileSchema, ResolutionSettings
from headwater.state.profiles.model import IdentityName, IdentityRow, LinkValue, RefusedEvidence, Separation

Evidence = tuple[str | None, ...]
Pair = tuple[int, int]


class Defined(Struct, frozen=True):
    """The profiles that the definition gives."""

    profiles: set[frozenset[int]]
    refused: set[RefusedEvidence]
    """Without blocked values, and without times."""
    constrained: set[frozenset[int]]


def read_evidence(attributes: str, settings: ResolutionSettings) -> Evidence:
    """Return the evidence of attributes whose identifiers are strings."""
    values = json.loads(attributes)
    evidence: list[str | None] = []
    for identifier in settings.identifiers:
        value = values.get(identifier.path)
        is_absent = value is None or value in identifier.blocked_values
        if not is_absent and not identifier.allows_blank and not value.strip():
            is_absent = True
        evidence.append(None if is_absent else value)
    return tuple(evidence)


def define(
    names: dict[int, IdentityName],
    evidence: dict[int, Evidence],
    settings: ResolutionSettings,
    separations: list[Separation],
) -> Defined:
    """Return the profiles of the identities.

    Identities with one name may also be linked by a value. That changes no profile, but the value is refused too.
    """
    counts = Counter(
        (index, value) for row in evidence.values() for index, value in enumerate(row) if value is not None
    )
    over = {
        (index, value) for (index, value), count in counts.items() if count > settings.identifiers[index].max_identities
    }
    links: list[tuple[int, int, int, LinkValue]] = []
    for older, younger in combinations(sorted(names), 2):
        if names[older] == names[younger]:
            links.append((0, younger, older, LinkValue(-1, names[older].identity_id)))
        for index, (value, other) in enumerate(zip(evidence[older], evidence[younger], strict=True)):
            if value is not None and other is not None:
                if value == other and (index, value) not in over:
                    links.append((index + 1, younger, older, LinkValue(index, value)))
                break
    links.sort(key=lambda link: link[:3])
    sets = {id: {id} for id in names}
    for _, younger, older, _ in links:
        union = sets[younger] | sets[older]
        if _breaks(union, names, evidence, settings, separations) is None:
            for id in union:
                sets[id] = union
    refused = {RefusedEvidence(1, "TooManyIdentities", LinkValue(*value), 0) for value in over}
    constrained: set[frozenset[int]] = set()
    recorded: set[tuple[LinkValue, IdentityName | None, frozenset[int]]] = set()
    for rank, younger, older, link in links:
        ends = frozenset(sets[younger]), frozenset(sets[older])
        if ends[0] == ends[1]:
            continue
        constrained.update(ends)
        group = names[younger] if rank == 0 else None
        if any((link, group, end) not in recorded for end in ends):
            reason = _breaks(sets[younger] | sets[older], names, evidence, settings, separations)
            refused.add(RefusedEvidence(1, reason, link, younger, older))  # type: ignore[arg-type]
        recorded.update((link, group, end) for end in ends)
    return Defined({frozenset(set_) for set_ in sets.values()}, refused, constrained)


def _breaks(
    ids: set[int],
    names: dict[int, IdentityName],
    evidence: dict[int, Evidence],
    settings: ResolutionSettings,
    separations: list[Separation],
) -> str | None:
    """Return which constraint the identities break together."""
    for separation in separations:
        sides = {side for side, named in enumerate(separation.sides) for id in ids if names[id] in named}
        if len(sides) > 1:
            return "Separated"
    for index, identifier in enumerate(settings.identifiers):
        values = {evidence[id][index] for id in ids} - {None}
        if identifier.max_values is not None and len(values) > identifier.max_values:
            return "TooManyValues"
    return None


def merged(rows: list[IdentityRow], schema: ProfileSchema) -> dict[str, Any]:
    """Return the attributes of a profile. The properties are strings, or arrays of strings."""
    attributes: dict[str, Any] = {}
    for property in schema.schema.properties:
        found = [
            (row.name.connection == schema.primary_sources.get(property.name), row.updated_at, row.id, value)
            for row in rows
            if (value := json.loads(row.attributes).get(property.name)) is not None
        ]
        if found and property.type.kind == "array":
            attributes[property.name] = sorted({element for *_, value in found for element in value})
        elif found:
            attributes[property.name] = max(found)[3]
    return attributes
