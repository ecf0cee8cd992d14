"""The OpenAPI document of this server: the generated one, in which a call that is not built returns only 501.

The document is generated from the protos, which describe the whole API. The server knows which calls are built.
"""

from importlib.resources import files
from typing import Any, Final

import msgspec

_STAYING: Final = frozenset(("400", "404", "413", "501", "503", "504"))
"""The statuses of a call that is not built: 501, and the errors of the gateway."""
_NOT_BUILT: Final = "**Not built yet: returns 501.** "


def served_document(unbuilt: set[str]) -> bytes:
    """Return the document as JSON. `unbuilt` are the calls to mark, as "package.Service/Method"."""
    document: dict[str, Any] = msgspec.json.decode((files("headwater.v1") / "openapi.json").read_bytes())
    for path in document["paths"].values():
        for operation in path.values():
            if operation["x-grpc-method"] in unbuilt:
                operation["x-not-implemented"] = True
                operation["description"] = _NOT_BUILT + operation["description"]
                operation["responses"] = {
                    status: response for status, response in operation["responses"].items() if status in _STAYING
                }
    return msgspec.json.encode(document)
