"""How a worker and its supervisor talk: frames with a header of fixed size, little-endian, over two pipes.

The worker's first answer is to no request: it has started. Its payload names the parts of the confinement that the
system refused, separated by spaces.

request   kind B, context I, seconds d, length I, payload     L load   payload JSON {"adapter", "source"}
                                                              R run    payload a JSON array of records
                                                              D drop   no payload, no answer
answer    kind B, memory held Q, length I, payload            O done   payload the lines that `runtime.js` writes
                                                              E error  payload its text; the worker is still good
                                                              T too slow, M too much memory: it is not
"""

import struct
from typing import Final

REQUEST: Final = struct.Struct("<BIdI")
ANSWER: Final = struct.Struct("<BQI")
LOAD, RUN, DROP = b"LRD"
DONE, ERROR, TOO_SLOW, TOO_MUCH = b"OETM"
SOURCE_NAME: Final = "function.js"
"""What a function's source is called in stack traces."""
