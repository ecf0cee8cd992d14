"""Databases: rows are read with a query and written into a table.

| module | content |
| --- | --- |
| `postgresql.py`, `mysql.py`, … | `QuerySource` and `TableSink` of one database |
| `postgresql_session.py`, … | connections to one database, and their errors |
| `postgresql_types.py`, … | the column types of a database as schema types, and their values |
| `placeholders.py` | `${updated_at}` and `${limit}` in queries |
| `quoting.py` | names of tables and columns |
| `rows.py` | the result of a query: checked columns, bounded batches |
| `sessions.py` | the open sessions of sources and sinks, which another thread can end |
| `tables.py` | the checks of a table, and its errors |
| `writing.py` | checks a batch, and finds the rows that make it fail |
| `limits.py`, `tls.py` | time limits, encryption |

A module imports its driver, so it is imported when a connection of its database is used.
"""
