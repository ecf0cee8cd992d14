"""Histories on the rows of real databases, whose results are those of the rows in memory."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from headwater.catalog.profiles import ResolutionSettings
from headwater.state import open_state
from headwater.state.profiles import neighbours
from headwater.state.profiles.resolving import ResolutionRows
from tests.examples import examples
from tests.harness import MovableClock
from tests.profiles.history import History, Operation
from tests.profiles.mirror import MirroredRows
from tests.profiles.test_histories import operations, settings
from tests.sqlite import migrated_url

steps = st.lists(
    st.one_of(
        st.tuples(st.just("batch"), operations),
        st.tuples(st.just("split"), st.integers(0, 9)),
        st.tuples(st.just("undo"), st.integers(0, 9)),
        st.tuples(st.just("settings"), settings),
    ),
    max_size=12,
)


@pytest.mark.parametrize("read_together", [50, 2])
async def test_histories_on_a_database(
    database_url: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_together: int
) -> None:
    """Also if most of what is near a change is too much to read it together."""
    for name in ("MAX_HOLDERS", "MAX_PROFILES", "MAX_MEMBERS"):
        monkeypatch.setattr(neighbours, name, read_together)
    monkeypatch.setattr(neighbours, "build_statement", neighbours.build_statement.__wrapped__)
    url = database_url or migrated_url(tmp_path / "state.db")
    async with open_state(url, writes=True, clock=MovableClock()) as state, state.trial() as transaction:
        await transaction.on_profiles(check_histories)


def check_histories(stored: ResolutionRows) -> None:
    @given(settings, steps)
    @hypothesis_settings(max_examples=examples(25), suppress_health_check=[HealthCheck.too_slow])
    def check(settings: ResolutionSettings, steps: list[tuple[str, object]]) -> None:
        savepoint = stored._connection.begin_nested()
        try:
            history = History(settings, MirroredRows(stored))
            for kind, argument in steps:
                take(history, kind, argument)
        finally:
            savepoint.rollback()

    check()


def take(history: History, kind: str, argument: object) -> None:
    """Take one step, if it is possible, and check the state."""
    if kind == "batch":
        batch: list[Operation] = argument  # type: ignore[assignment]
        history.batch(batch, 10_000)
    elif kind == "settings":
        assert isinstance(argument, ResolutionSettings)
        history.change_settings(argument)
    else:
        assert isinstance(argument, int)
        divisible = [(id, named) for id, named in sorted(history.names_by_profile().items()) if len(named) > 1]
        separations = sorted(history.rows.separation_rows)
        if kind == "split" and divisible:
            id, named = divisible[argument % len(divisible)]
            history.split(id, named[: 1 + argument % (len(named) - 1)])
        elif kind == "undo" and separations:
            history.undo(separations[argument % len(separations)])
    history.check()
