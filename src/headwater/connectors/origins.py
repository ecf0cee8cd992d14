"""Servers that stand for those of vendors: for tests, staging and mock servers.

A connector has the vendor's addresses in its code, and previews show these. Only the HTTP client replaces the origin of
a URL, immediately before it connects. It checks the address of the other server as that of any destination.
"""

from collections.abc import Iterable
from typing import Final, Self

import msgspec


class Origins(msgspec.Struct, frozen=True):
    """By the origin of a vendor ("https://a.klaviyo.com"), that of the server to use for it."""

    servers: dict[str, str] = {}

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]]) -> Self:
        return cls(dict(pairs))

    def replace(self, url: str) -> str:
        """Return the URL at the server that stands for its origin, or the URL itself."""
        if not self.servers:
            return url
        end = _end_of_origin(url)
        server = self.servers.get(url[:end].lower())
        return url if server is None else server + url[end:]


NO_ORIGINS: Final = Origins()
"""Requests go to the vendors."""


def _end_of_origin(url: str) -> int:
    begin = url.find("://") + 3
    ends = [end for mark in "/?#" if (end := url.find(mark, begin)) >= 0]
    return min(ends, default=len(url))
