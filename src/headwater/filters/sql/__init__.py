"""Renders a checked filter as a condition of SQL, for SQLite and PostgreSQL."""

from headwater.filters.sql.dialect import Dialect, Parameters
from headwater.filters.sql.postgresql import POSTGRESQL
from headwater.filters.sql.render import Where, render
from headwater.filters.sql.sqlite import SQLITE

__all__ = ["POSTGRESQL", "SQLITE", "Dialect", "Parameters", "Where", "render"]
