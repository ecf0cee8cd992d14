"""Schedules of batch pipelines: their ticks, and the runs that a tick starts.

A schedule has a tick at each minute of the day that differs from its start by a multiple of its period, in UTC. A tick
has one run, whichever processes see it: the store has one row for it. Of the ticks that passed while no process ran,
only the latest starts a run.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import structlog

from headwater.base.clock import Clock, microseconds
from headwater.catalog import Catalog, Connection, Pipeline
from headwater.catalog.model import SchedulePeriod
from headwater.state.runs import Run, RunRequest, RunStore, Schedule

PERIOD_MINUTES: Final[Mapping[SchedulePeriod, int]] = {
    "5m": 5,
    "15m": 15,
    "30m": 30,
    "1h": 60,
    "2h": 120,
    "3h": 180,
    "6h": 360,
    "8h": 480,
    "12h": 720,
    "24h": 1_440,
}
"""All are divisors of the minutes of a day, so that each day has the same ticks."""
_MINUTE: Final = 60_000_000

_log = structlog.get_logger(__name__)


def latest_tick(now: int, period_minutes: int, start_minute: int) -> int:
    """Return the latest tick of a schedule up to `now`, in microseconds since the epoch."""
    minute = now // _MINUTE
    return (minute - (minute - start_minute) % period_minutes) * _MINUTE


def due_tick(schedule: Schedule, now: int) -> int | None:
    """Return the tick of a schedule that is due at `now`; None if there is none since it is followed."""
    tick = latest_tick(now, schedule.period_minutes, schedule.start_minute)
    return tick if tick > schedule.since else None


def make_request(
    pipeline: Pipeline, connection: Connection, *, incremental: bool | None = None, full: bool = False
) -> RunRequest:
    """Return the request of a run. `incremental` is None for the setting of the pipeline."""
    is_source = connection.role == "Source"
    return RunRequest(
        workspace=pipeline.workspace,
        pipeline=pipeline.id,
        connection=pipeline.connection,
        is_incremental=is_source and (pipeline.definition.incremental if incremental is None else incremental),
        is_full=full and not is_source,
    )


class Ticker:
    """Creates the runs of ticks. Each scheduler has one."""

    def __init__(self, catalog: Catalog, runs: RunStore, clock: Clock) -> None:
        self._catalog = catalog
        self._runs = runs
        self._clock = clock
        self._followed: dict[int, Schedule] | None = None
        """The schedules of enabled pipelines; None before the first round."""
        self._fired: dict[int, int] = {}
        """The latest tick of each pipeline that has a run."""

    async def fire(self) -> list[Run]:
        """Create the runs of all ticks that are due, and return those that this process created. Raises Unavailable.

        The catalog must be refreshed before, so that a change of a schedule is seen.
        """
        followed = await self._follow()
        now, created = microseconds(self._clock.now()), []
        for pipeline, connection in _scheduled(self._catalog):
            tick = due_tick(followed[pipeline.id], now)
            if tick is None or self._fired.get(pipeline.id) == tick:
                continue
            run = await self._runs.create_due(make_request(pipeline, connection), tick)
            self._fired[pipeline.id] = tick
            if run is not None:
                created.append(run)
                if run.status == "Skipped":
                    _log.warning("a scheduled run was skipped", pipeline=pipeline.id, reason=run.error)
        return created

    async def _follow(self) -> dict[int, Schedule]:
        """Follow the schedules of enabled pipelines, and no others."""
        followed = await self._runs.schedules() if self._followed is None else self._followed
        scheduled = {pipeline.id: pipeline for pipeline, _ in _scheduled(self._catalog)}
        for id_, pipeline in scheduled.items():
            assert pipeline.schedule_period is not None
            period, start = PERIOD_MINUTES[pipeline.schedule_period], pipeline.schedule_start or 0
            known = followed.get(id_)
            if known is None or (known.period_minutes, known.start_minute) != (period, start):
                followed[id_] = await self._runs.follow(id_, period, start)
        if gone := followed.keys() - scheduled.keys():
            await self._runs.forget(gone)
            for id_ in gone:
                del followed[id_]
                self._fired.pop(id_, None)
        self._followed = followed
        return followed


def _scheduled(catalog: Catalog) -> Iterator[tuple[Pipeline, Connection]]:
    """Yield the enabled pipelines with a schedule, and their connections."""
    for workspace in catalog.workspaces():
        for connection in catalog.connections(workspace.id):
            for pipeline in connection.pipelines:
                if pipeline.enabled and pipeline.schedule_period is not None and pipeline.schedule_start is not None:
                    yield pipeline, connection
