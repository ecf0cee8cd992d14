"""An application that is not there: ten customers in memory, and events that go where its settings say.

It is for trying things out and for tests: it needs no account, its customers are known, and its settings make it slow
or unreliable. All connections of one process share the customers.
"""

from headwater.connectors.dummy.connector import CONNECTOR

__all__ = ["CONNECTOR"]
