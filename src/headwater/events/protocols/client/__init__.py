"""The client API: snake_case calls of apps and web pages, with a public key.

A call is accepted or rejected as a whole: each of its objects is checked against its shape, and the first broken rule
is reported in the words that its clients know. Calls are translated into the members of the track API, so that one
canonical event serves all protocols.
"""

from typing import Final

from headwater.events.protocols.client.call import check, max_body, read, read_call

KEY_IN_BODY: Final = False

__all__ = ["KEY_IN_BODY", "check", "max_body", "read", "read_call"]
