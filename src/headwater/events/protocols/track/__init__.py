"""The track API: the calls of the Segment family, as its SDKs really send them.

The rules are those of the documented API, applied leniently where its SDKs differ: null ids are absent, numeric ids are
read as text, unknown members are kept. An invalid event is rejected alone, not its batch; a body that is not JSON, even
after the repairs of `headwater.events.wellformed`, rejects the whole call.
"""

from typing import Final

from headwater.events.protocols.track.call import read_call
from headwater.events.protocols.track.rules import check, max_body, read

KEY_IN_BODY: Final = True

__all__ = ["KEY_IN_BODY", "check", "max_body", "read", "read_call"]
