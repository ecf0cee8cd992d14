"""The limits of connections to databases."""

from typing import Final

CONNECT_SECONDS: Final = 10.0
"""Time limit of connecting, and of waiting for a lock."""
WAIT_SECONDS: Final = 600.0
"""Time limit of waiting for the next rows of a query, or for the end of a statement that writes."""
MAX_VALUE_BYTES: Final = 64 * 1024 * 1024
"""Maximum size of a value, where the database can limit it."""
MAX_ADDRESSES: Final = 4
"""Addresses of a host that are tried."""
