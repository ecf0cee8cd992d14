"""The counts of pipelines over a range of minutes, hours or days, and their errors: those of the worker and of the
courier together."""

from collections.abc import Sequence
from datetime import date
from typing import Final, Literal

from msgspec import Struct

from headwater.base.clock import day_start
from headwater.base.errors import BadRequest, NotFound
from headwater.base.steps import ProcessingStep
from headwater.state import StateStore
from headwater.state.counts import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS, STEPS, PipelineError
from headwater.state.lanestore import LaneStore

Unit = Literal["minutes", "hours", "days"]

MAX_UNITS: Final[dict[Unit, int]] = {"minutes": 60, "hours": 48, "days": 30}
"""Maximum number of minutes, hours and days up to now."""
MAX_PIPELINE_DAYS: Final = 60_000
"""Maximum number of days in a range of dates, counted for each pipeline."""
_SECONDS: Final[dict[Unit, int]] = {"minutes": MINUTE_SECONDS, "hours": HOUR_SECONDS, "days": DAY_SECONDS}


class Range(Struct, frozen=True):
    """Consecutive minutes, hours or days. Times are microseconds since the epoch."""

    start: int
    end: int
    unit_seconds: int

    @property
    def units(self) -> range:
        """Return the starts of the units."""
        return range(self.start, self.end, self.unit_seconds * 1_000_000)


class PipelineMetrics(Struct, frozen=True):
    """The counts of a range, a list of the steps' counts for each unit."""

    range: Range
    passed: list[list[int]]
    failed: list[list[int]]


def latest_units(unit: Unit, number: int, *, now: int) -> Range:
    """Return so many units up to the present one. Raises NotFound if the number is out of range."""
    if not 1 <= number <= MAX_UNITS[unit]:
        raise NotFound(f"{unit} must be in the range from 1 to {MAX_UNITS[unit]}", field=unit)
    length = _SECONDS[unit] * 1_000_000
    end = now - now % length + length
    return Range(end - number * length, end, _SECONDS[unit])


def dates(start: date, end: date, *, pipelines: int) -> Range:
    """Return the days from `start` to before `end`, for so many pipelines.

    Raises NotFound unless `end` is after `start`, and BadRequest if there are more than `MAX_PIPELINE_DAYS`.
    """
    days = (end - start).days
    if days < 1:
        raise NotFound("end must be after start", field="end")
    if days * max(1, pipelines) > MAX_PIPELINE_DAYS:
        raise BadRequest(f"{days} days of {pipelines} pipelines are more than {MAX_PIPELINE_DAYS}", field="end")
    return Range(day_start(start), day_start(end), DAY_SECONDS)


async def pipeline_metrics(
    pipelines: Sequence[int], over: Range, state: StateStore, lanes: LaneStore
) -> PipelineMetrics:
    """Return the sums of the counts of pipelines. Raises Unavailable."""
    units = {start: [0] * (2 * len(STEPS)) for start in over.units}
    if pipelines:
        for store in (state, lanes):
            found = await store.pipeline_counts(
                pipelines, start=over.start, end=over.end, unit_seconds=over.unit_seconds
            )
            for start, counts in found.items():
                units[start] = [one + other for one, other in zip(units[start], counts, strict=True)]
    middle = len(STEPS)
    return PipelineMetrics(
        over, [counts[:middle] for counts in units.values()], [counts[middle:] for counts in units.values()]
    )


async def pipeline_errors(
    pipelines: Sequence[int],
    state: StateStore,
    lanes: LaneStore,
    *,
    start: int,
    end: int,
    step: ProcessingStep | None,
    first: int,
    limit: int,
) -> list[PipelineError]:
    """Return errors of pipelines from `start` to before `end`, in microseconds since the epoch, the latest first.

    `first` is the number of errors to skip. Raises Unavailable.
    """
    if not pipelines:
        return []
    merged: dict[tuple[int, ProcessingStep, str], PipelineError] = {}
    for store in (state, lanes):
        for error in await store.pipeline_errors(pipelines, start=start, end=end, step=step, limit=first + limit):
            key = error.pipeline, error.step, error.message
            other = merged.get(key)
            if other is not None:
                error = PipelineError(*key, error.count + other.count, max(error.last_at, other.last_at))
            merged[key] = error
    in_order = sorted(merged.values(), key=lambda each: (-each.last_at, each.pipeline, each.step, each.message))
    return in_order[first : first + limit]
