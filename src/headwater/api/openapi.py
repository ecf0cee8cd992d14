"""The OpenAPI document as this server serves it: the generated one, in which a call that is not built answers only 501.

The document is generated from the protos, which describe the whole API; what of it is built, the server knows.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

import grpc
import msgspec
from grpc import aio

from headwater.api.call import is_built

if TYPE_CHECKING:
    Handlers = Mapping[str, grpc.RpcMethodHandler[Any, Any]]  # generic in the stubs only

_STAYING: Final = frozenset(("400", "404", "413", "501", "503", "504"))
"""What a call that is not built can still answer: 501, and what the gateway answers in its stead."""
_NOT_BUILT: Final = "**Not built yet: answers 501.** "


class BuiltCalls:
    """Passes services on to a server and notes which of their calls are built. For the generated `add_…_to_server`."""

    def __init__(self, server: aio.Server) -> None:
        self._server = server
        self.unbuilt: set[str] = set()
        """The calls that are registered but not built, as "headwater.v1.Service/Method"."""

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        self._server.add_generic_rpc_handlers(handlers)

    def add_registered_method_handlers(self, service: str, handlers: "Handlers") -> None:
        self._server.add_registered_method_handlers(service, handlers)
        self.unbuilt |= {
            f"{service}/{name}"
            for name, handler in handlers.items()
            if not is_built(handler.unary_unary or handler.unary_stream)
        }


def served_document(unbuilt: set[str]) -> bytes:
    """The document as JSON, where the calls named in `unbuilt` say so."""
    document: dict[str, Any] = msgspec.json.decode((files("headwater.v1") / "openapi.json").read_bytes())
    for path in document["paths"].values():
        for operation in path.values():
            if operation["x-grpc-method"] in unbuilt:
                operation["description"] = _NOT_BUILT + operation["description"]
                operation["responses"] = {
                    status: response for status, response in operation["responses"].items() if status in _STAYING
                }
    return msgspec.json.encode(document)
