"""Converts the health of a lane to the form in which it is stored, and back."""

from collections.abc import Mapping
from typing import Final

from headwater.delivery.items import Health, HealthState, failure_text
from headwater.state.deliveries import LaneHealth
from headwater.state.deliveries.records import HealthState as StoredState


def stored_health(health: Health, destination: int, workspace: int, last_success_at: int) -> LaneHealth:
    """Return the health of a lane in the form in which it is stored."""
    return LaneHealth(
        destination=destination,
        workspace=workspace,
        state=_STORED_STATES[health.state],
        failing_since=_stored_time(health.failing_since),
        paused_until=_stored_time(health.paused_until),
        failures=health.failures,
        last_status=health.status or 0,
        last_error=failure_text(health.reason, health.message),
        last_response=b"" if health.status is None else health.message.encode(errors="replace"),
        last_success_at=last_success_at,
    )


def restored_health(stored: LaneHealth) -> Health:
    """Return the health with which a lane begins after a restart. A state of another release counts as closed."""
    reason, _, message = stored.last_error.partition(": ")
    return Health(
        state=_LANE_STATES.get(stored.state, HealthState.CLOSED),
        failures=stored.failures,
        failing_since=_lane_time(stored.failing_since),
        paused_until=_lane_time(stored.paused_until),
        reason=reason,
        message=message,
        status=stored.last_status or None,
    )


_STORED_STATES: Final[Mapping[HealthState, StoredState]] = {
    HealthState.CLOSED: "closed",
    HealthState.OPEN: "open",
    HealthState.HALF_OPEN: "half_open",
    HealthState.REFUSING: "refusing",
}
_LANE_STATES: Final[Mapping[StoredState, HealthState]] = {stored: state for state, stored in _STORED_STATES.items()}


def _stored_time(seconds: float | None) -> int:
    return 0 if seconds is None else int(seconds * 1e6)


def _lane_time(at: int) -> float | None:
    return at / 1e6 if at else None
