"""The protocol between a worker and its supervisor: frames with a little-endian header of fixed size, over two pipes.

The worker's first response has no request: it states that the worker has started. Its payload lists the parts of the
confinement that the system refused, separated by spaces.

    request   kind B, context I, seconds d, length I, payload     L load   payload JSON {"adapter", "source"}
                                                                  R run    payload a JSON array of records
                                                                  D drop   no payload, no response
    response  kind B, memory held Q, length I, payload            O done   payload the lines that `runtime.js` writes
                                                                  E error  payload its text; the worker still works
                                                                  T too slow, M too much memory: it does not
"""

import struct
from typing import Final

REQUEST: Final = struct.Struct("<BIdI")
RESPONSE: Final = struct.Struct("<BQI")
LOAD, RUN, DROP = b"LRD"
DONE, ERROR, TOO_SLOW, TOO_MUCH = b"OETM"
SOURCE_NAME: Final = "function.js"
"""The name of a function's source in stack traces."""
