"""Imports of users: from applications, databases and files to identities.

A thread reads records and maps them, in batches. The event loop stores each batch in a transaction, together with the
place at which the run continues and its counts. At most three batches wait in between.
"""

from headwater.runs.importing.importing import execute_import

__all__ = ["execute_import"]
