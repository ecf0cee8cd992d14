"""How large what clients send may be."""

from typing import Final

from msgspec import Struct

MAX_BATCH_EVENTS: Final = 20_000
"""The most events in a call. So many that are valid do not fit into a batch: this bounds the others."""
MAX_DEFAULTS_BYTES: Final = 4 * 1024 * 1024
"""How much the `context` and `integrations` of a batch may become, since each of its events is stored with them."""
MAX_REJECTED_BYTES: Final = 64 * 1024
"""Bytes of a rejected event or call that are stored; the rest is cut off."""
MAX_DEPTH: Final = 100
"""How deep an event may be nested. The decoder's own limit depends on how deep the stack is where it is called, and the
worker, and whoever reads the event, must be able to decode what the intake accepted."""


class Limits(Struct, frozen=True, array_like=True):
    """What an operator may decide. Bytes are those of the JSON, after inflation."""

    event_bytes: int = 32 * 1024
    """The largest event of the track API, alone or in a batch; over gRPC too."""
    batch_bytes: int = 500 * 1024
    """The largest batch, or call of the native API."""
    client_bytes: int = 1024 * 1024
    """The largest call of the client API."""


DEFAULT_LIMITS: Final = Limits()
