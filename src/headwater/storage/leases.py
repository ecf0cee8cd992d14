"""The time that leases are compared with, which is one for all machines."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import BigInteger, ColumnElement, DateTime, Engine, cast, extract, func, literal
from sqlalchemy.ext.asyncio import AsyncEngine

from headwater.base.clock import Clock, microseconds

_DATABASE_TIME: Final = cast(extract("epoch", func.statement_timestamp()) * 1_000_000, BigInteger)


def lease_time(engine: Engine | AsyncEngine, clock: Clock) -> ColumnElement[int]:
    """Return the present time in microseconds since the epoch, as an expression of a statement.

    It is the time of the database on PostgreSQL: the clock of a machine may be wrong, and would end the leases of the
    others, or hold its own. A SQLite file belongs to one machine.
    """
    if engine.dialect.name == "postgresql":
        return _DATABASE_TIME
    return literal(microseconds(clock.now()), BigInteger)


def lease_moment(engine: Engine, clock: Clock, seconds: float = 0.0) -> ColumnElement[datetime] | datetime:
    """Return the moment that is `seconds` after the present one, by the same clock as `lease_time`."""
    later = timedelta(seconds=seconds)
    if engine.dialect.name == "postgresql":
        return func.statement_timestamp(type_=DateTime(timezone=True)) + later
    return clock.now() + later
