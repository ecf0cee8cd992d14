"""Undoes `Content-Encoding`, with a cap: a small body may not become a large one."""

import zlib
from typing import Final

from headwater.base.errors import BadRequest, PayloadTooLarge

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_BARE: Final = -zlib.MAX_WBITS


def inflate(body: bytes, encoding: str | None, *, limit: int) -> bytes:
    """The body as it was before encoding, at most `limit` bytes of it.

    Raises PayloadTooLarge above the limit, and BadRequest for a body that is corrupt or cut short, and for an encoding
    other than gzip and deflate.
    """
    match (encoding or "identity").strip().lower():
        case "identity":
            inflated = body
        case "gzip" | "x-gzip":
            inflated = _inflated(body, "gzip", _GZIP, limit)
        case "deflate":
            inflated = _inflated(body, "deflate", _ZLIB if _has_zlib_header(body) else _BARE, limit)
        case other:
            raise BadRequest(
                f"Content-Encoding '{other[:40]}' is not supported: send gzip, deflate or none", field="body"
            )
    if len(inflated) > limit:
        raise PayloadTooLarge(f"the body is larger than {limit} bytes")
    return inflated


def _inflated(body: bytes, name: str, window_bits: int, limit: int) -> bytes:
    inflater = zlib.decompressobj(window_bits)
    try:
        inflated = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequest(f"the body is not valid {name}", field="body") from error
    if len(inflated) <= limit and not inflater.eof:
        raise BadRequest(f"the {name} body ends too early", field="body")
    if inflater.unused_data:
        raise BadRequest(f"the {name} body has bytes after its end", field="body")
    return inflated


def _has_zlib_header(body: bytes) -> bool:
    """Whether the body is deflate as RFC 9110 has it. Some clients send the bare deflate of RFC 1951."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
