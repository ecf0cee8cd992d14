"""Pages of lists: `first` and `limit`, and tokens that stay right while the list changes.

A token holds a cursor: the key of the last item of a page. The next page begins after that key, so that nothing is
skipped or repeated because of items that arrive meanwhile. A token is valid for the request that it was returned for,
whatever its `limit` and `properties` are; its checksum covers both.
"""

import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_right
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, Final, Generic, TypeVar, cast

import msgspec
from google.protobuf.message import Message

from headwater.base.errors import BadRequest

DEFAULT_LIMIT: Final = 100
MAX_LIMIT: Final = 1_000
NO_LIMIT: Final = sys.maxsize
"""The default limit of lists that are returned as a whole."""
MAX_TOKEN_CHARACTERS: Final = 4_096
_CHECKSUM_BYTES: Final = 8
_NOT_CONDITIONS: Final = ("first", "limit", "page_token", "properties")

_Item = TypeVar("_Item")
_Cursor = TypeVar("_Cursor")


class Page(Generic[_Cursor]):
    """A page that a request asks for."""

    def __init__(self, request: Message, cursor: type[_Cursor], *, default_limit: int = DEFAULT_LIMIT) -> None:
        """Read the page of a request, whose fields are `limit`, `page_token` and, in some, `first`.

        `cursor` is the type of the list's cursors. Raises BadRequest for values out of range, and for a token that is
        not of this list.
        """
        fields: Any = request
        self._scope = _scope(request)
        self.limit: int = _optional(request, "limit", default_limit)
        """The maximum number of items."""
        self.first: int = _optional(request, "first", 0)
        """The number of items to skip."""
        if self.first < 0:
            raise BadRequest("first must be 0 or greater", field="first")
        if request.HasField("limit") and not 1 <= self.limit <= MAX_LIMIT:
            raise BadRequest(f"limit must be in the range from 1 to {MAX_LIMIT}", field="limit")
        self.after: _Cursor | None = None
        """The cursor after which the page begins; None for the first page."""
        if fields.page_token:
            if self.first:
                raise BadRequest("first cannot be combined with pageToken", field="first")
            self.after = self._decode(fields.page_token, cursor)

    def token(self, cursor: _Cursor | None) -> str:
        """Return the token of the next page, which begins after the cursor; empty for None."""
        if cursor is None:
            return ""
        payload = msgspec.msgpack.encode(cursor)
        return urlsafe_b64encode(self._checksum(payload) + payload).decode().rstrip("=")

    def cut(self, items: Sequence[_Item], cursor: Callable[[_Item], _Cursor]) -> tuple[Sequence[_Item], str]:
        """Return the page and the token of the next one. `items` are those after the cursor: one more than `limit`,
        if there are so many."""
        if len(items) <= self.limit:
            return items, ""
        page = items[: self.limit]
        return page, self.token(cursor(page[-1]))

    def select(self, items: Sequence[_Item], cursor: Callable[[_Item], _Cursor]) -> tuple[Sequence[_Item], str]:
        """Return the page of a complete list, which is sorted by its cursors, and the token of the next one."""
        start = 0
        if self.after is not None:
            start = bisect_right(cast(Any, items), self.after, key=cast(Any, cursor))
        return self.cut(items[start : start + self.limit + 1], cursor)

    def _decode(self, token: str, cursor: type[_Cursor]) -> _Cursor:
        try:
            data = urlsafe_b64decode(token[:MAX_TOKEN_CHARACTERS].encode("ascii") + b"==")
            payload = data[_CHECKSUM_BYTES:]
            if data[:_CHECKSUM_BYTES] == self._checksum(payload):
                return msgspec.msgpack.decode(payload, type=cursor)
        except (ValueError, msgspec.MsgspecError):
            pass
        raise BadRequest("pageToken must be the nextPageToken of a response to the same request", field="pageToken")

    def _checksum(self, payload: bytes) -> bytes:
        return blake2b(self._scope + payload, digest_size=_CHECKSUM_BYTES, person=b"page").digest()


def _optional(request: Message, name: str, default: int) -> int:
    """Return the value of an optional field; the default for a message without it."""
    if name not in request.DESCRIPTOR.fields_by_name or not request.HasField(name):
        return default
    value: int = getattr(request, name)
    return value


def _scope(request: Message) -> bytes:
    """Return the list and the conditions of a request, for the checksum of its tokens."""
    conditions = type(request)()
    conditions.CopyFrom(request)
    for name in _NOT_CONDITIONS:
        if name in conditions.DESCRIPTOR.fields_by_name:
            conditions.ClearField(name)
    return blake2b(
        request.DESCRIPTOR.full_name.encode() + b"\0" + conditions.SerializeToString(deterministic=True),
        digest_size=16,
    ).digest()
