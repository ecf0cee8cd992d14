"""Slack's specification of messages, from the client and the models of `slack-sdk`.

The client has the types of a message's members, and the models check blocks: their types, members and lengths.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from tests.connectors.specifications.schemas import Types, close, read
from tests.connectors.specifications.specification import Operation, Operations

_SEND: Final = read("slack_sdk.webhook.client", "WebhookClient").send
_BLOCK: Final = read("slack_sdk.models.blocks", "Block")
_INVALID: Final = read("slack_sdk.errors", "SlackObjectFormationError")
_OTHER_TYPES: Final = frozenset({"self", "headers", "attachments", "blocks"})
"""Parameters that are no members of a message, or have models of their own."""


def _message() -> Operations:
    types = Types()
    hints = types.hints(_SEND)
    names = [name for name in inspect.signature(_SEND).parameters if name not in _OTHER_TYPES]
    message = types.members({name: hints[name] for name in names})
    message["properties"]["blocks"] = {"type": "array", "items": {"type": "object"}}
    return Operations(Operation("POST", "/services/{team}/{webhook}/{secret}", body=close(message)))


_OPERATIONS: Final = _message()


class _Messages:
    def find_errors(self, method: str, path: str, query: Mapping[str, list[str]], body: bytes) -> Iterator[str]:
        yield from (errors := _OPERATIONS.find_errors(method, path, query, body))
        if errors:
            return
        for index, block in enumerate(msgspec.json.decode(body).get("blocks", ())):
            if error := _find_error(block):
                yield f"blocks/{index}: {error}"


def _find_error(block: dict[str, Any]) -> str:
    try:
        parsed = _BLOCK.parse(block)
        return _find_difference(block, {} if parsed is None else parsed.to_dict())
    except (_INVALID, TypeError) as error:
        return str(error)


def _find_difference(given: Any, known: Any) -> str:
    """Return a member that the models do not know; empty if they know all."""
    if isinstance(given, dict) and isinstance(known, dict):
        if unknown := sorted(given.keys() - known.keys()):
            return f"unknown members: {unknown}"
        return next(filter(None, (_find_difference(given[name], known[name]) for name in given)), "")
    if isinstance(given, list) and isinstance(known, list):
        return next(filter(None, map(_find_difference, given, known)), "")
    return ""


SPECIFICATION: Final = _Messages()
