"""After every step of any history, the profiles are those of the definition, and keep their ids by the rule."""

import os
from typing import Final

import hypothesis.strategies as st
import msgspec
from hypothesis import settings as hypothesis_settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headwater.catalog.profiles import Identifier, ResolutionSettings
from headwater.state.profiles.model import IdentityName
from tests.examples import examples
from tests.profiles.history import History, Operation

EXAMPLES: Final = int(os.environ.get("HEADWATER_EXAMPLES", "40"))

names = st.builds(
    IdentityName,
    connection=st.integers(1, 2),
    identity_id=st.sampled_from("abcd"),
    is_anonymous=st.sampled_from([False, False, True]),
)
pipelines = st.integers(1, 2)
values = st.sampled_from(["x", "x", "y", "z", "", "0", None, None])
attributes = st.builds(
    lambda **members: msgspec.json.encode({key: value for key, value in members.items() if value is not ...}).decode(),
    email=values,
    phone=values,
    ref=values,
    name=st.sampled_from([..., None, "A", "B"]),
    plan=st.sampled_from([..., None, "P", "Q"]),
    tags=st.sampled_from([..., None, [], ["t", "s"], ["u"]]),
)
identifiers = st.builds(
    Identifier,
    path=st.just(""),
    blocked_values=st.sampled_from([(), (), ("0",)]),
    max_identities=st.sampled_from([1_000, 2, 3, 4]),
    max_values=st.sampled_from([None, None, 1, 2]),
    allows_blank=st.booleans(),
)
settings = st.builds(
    lambda paths, guards: ResolutionSettings(
        identifiers=tuple(msgspec.structs.replace(guard, path=path) for path, guard in zip(paths, guards, strict=False))
    ),
    st.permutations(["email", "phone", "ref"]),
    st.lists(identifiers, min_size=0, max_size=3),
)
arrivals = st.tuples(st.just("put"), names, pipelines, attributes, st.integers(0, 9))
operations = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "touch", "delete", "claim"]), names, pipelines, attributes, st.integers(0, 9)
    ),
    min_size=1,
    max_size=5,
)
limits = st.sampled_from([None, 10_000, 2, 1])


class Histories(RuleBasedStateMachine):
    @initialize(settings=settings, identities=st.lists(arrivals, min_size=4, max_size=12))
    def begin(self, settings: ResolutionSettings, identities: list[Operation]) -> None:
        self.history = History(settings)
        self.history.batch(identities, None)

    @rule(operations=operations, limit=limits)
    def batch(self, operations: list[Operation], limit: int | None) -> None:
        self.history.batch(operations, limit)

    @rule(operation=arrivals, limit=limits)
    def arrive(self, operation: Operation, limit: int | None) -> None:
        self.history.batch([operation], limit)

    @precondition(lambda self: self.history.rows.identity_rows)
    @rule(data=st.data(), kind=st.sampled_from(["put", "delete", "claim"]), attributes=attributes)
    def change(self, data: st.DataObject, kind: str, attributes: str) -> None:
        row = self.history.rows.identity_rows[data.draw(st.sampled_from(sorted(self.history.rows.identity_rows)))]
        self.history.batch([(kind, row.name, row.pipeline, attributes, row.updated_at)], None)

    @precondition(lambda self: self.divisible())
    @rule(data=st.data())
    def split(self, data: st.DataObject) -> None:
        divisible = self.divisible()
        profile = data.draw(st.sampled_from(sorted(divisible)))
        named = divisible[profile]
        leaving = data.draw(st.lists(st.sampled_from(named), min_size=1, max_size=len(named) - 1, unique=True))
        self.history.split(profile, leaving)

    def divisible(self) -> dict[int, list[IdentityName]]:
        """Return the names in the profiles with several."""
        return {profile: named for profile, named in self.history.names_by_profile().items() if len(named) > 1}

    @precondition(lambda self: self.history.rows.separation_rows)
    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        self.history.undo(data.draw(st.sampled_from(sorted(self.history.rows.separation_rows))))

    @rule(settings=settings)
    def change_settings(self, settings: ResolutionSettings) -> None:
        self.history.change_settings(settings)

    @invariant()
    def state_is_right(self) -> None:
        if hasattr(self, "history"):
            self.history.check()


TestHistories = Histories.TestCase
TestHistories.settings = hypothesis_settings(max_examples=examples(EXAMPLES), stateful_step_count=20, deadline=None)
