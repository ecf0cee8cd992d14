"""The changes of identities that are resolved together. Pure."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from headwater.profiles.naming import last_successors
from headwater.state.profiles.model import ChangedIdentity, Evidence, IdentityRow, LinkValue, Member


def collapse_changes(changed: Sequence[ChangedIdentity]) -> dict[int, ChangedIdentity]:
    """Return one change of each identity, with its last successor. An identity that the batch inserted and deleted has
    none."""
    latest: dict[int, ChangedIdentity] = {}
    successors: dict[int, int] = {}
    for change in changed:
        if (earlier := latest.get(change.id)) is not None:
            attributes_changed = change.attributes_changed or earlier.attributes_changed
            change = replace(change, is_new=earlier.is_new, attributes_changed=attributes_changed)
        latest[change.id] = change
        if change.successor:
            successors[change.id] = change.successor
    if successors:
        last = last_successors(successors)
        gone = {id for id, change in latest.items() if change.attributes is None}
        ends = {id: 0 if last.get(id, 0) in gone else last.get(id, 0) for id in successors}
        latest.update((id, replace(latest[id], successor=end)) for id, end in ends.items())
    return {id: change for id, change in latest.items() if not change.is_new or change.attributes is not None}


def read_row(change: ChangedIdentity, attributes: str) -> IdentityRow:
    """Return the row of a changed identity that was not deleted, without its anonymous ids."""
    return IdentityRow(change.id, change.workspace, change.name, change.pipeline, change.updated_at, attributes, "[]")


class EvidenceChange(Struct):
    """A change of the evidence of an identity, or of its existence."""

    identity: ChangedIdentity
    before: Member | None
    after: Evidence | None
    """None if the identity was deleted."""
    old: dict[LinkValue, int]
    """The masks of its values before."""
    new: dict[LinkValue, int]

    @property
    def touched(self) -> list[LinkValue]:
        """Return the values whose links change."""
        return [value for value in {**self.old, **self.new} if self.old.get(value) != self.new.get(value)]
