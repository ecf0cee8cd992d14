"""Database engines, migrations and what is particular to PostgreSQL; imported by catalog and state only."""
