"""Database engines, migrations and the specifics of PostgreSQL. Only catalog, state and warehouse import it."""
