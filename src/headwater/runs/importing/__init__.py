"""Imports of users: from applications, databases and files to identities.

A thread reads records and maps them, in batches. The event loop stores each batch in transactions. The last one has the
place at which the run continues, and the counts. At most two batches are stored or wait for it.
"""

from headwater.runs.importing.importing import execute_import

__all__ = ["execute_import"]
