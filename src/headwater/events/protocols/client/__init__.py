"""The client API: snake_case calls of apps and web pages, with a public key.

A call is taken as a whole or not at all: reading one holds every object in it to its shape, and names the first rule
that is broken in the words that its clients know. What it is read into are the members of the track API, so that one
canonical event serves all protocols.
"""

from typing import Final

from headwater.events.protocols.client.call import check, max_body, read, read_call

KEY_IN_BODY: Final = False

__all__ = ["KEY_IN_BODY", "check", "max_body", "read", "read_call"]
