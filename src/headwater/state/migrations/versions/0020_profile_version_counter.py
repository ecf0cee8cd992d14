"""The last version of a profile in a table of its own.

Code that knows one counter counts every row of `profile_counter`.
"""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.create_table(
        "profile_version_counter",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("last", sa.BigInteger, nullable=False),
    )
    op.execute("INSERT INTO profile_version_counter (id, last) SELECT 1, last FROM profile_counter WHERE id = 2")
    op.execute("DELETE FROM profile_counter WHERE id = 2")
