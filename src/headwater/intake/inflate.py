"""Undoes `Content-Encoding: gzip`, with a cap: a small body may not become a large one."""

import zlib

from headwater.base.errors import BadRequest, PayloadTooLarge

_GZIP = 16 + zlib.MAX_WBITS


def inflate(body: bytes, encoding: str | None, *, limit: int) -> bytes:
    """The body as it was before encoding, at most `limit` bytes of it.

    Raises PayloadTooLarge above the limit, and BadRequest for gzip that is corrupt or cut short, and for any other
    encoding.
    """
    match (encoding or "identity").strip().lower():
        case "identity":
            inflated = body
        case "gzip" | "x-gzip":
            inflated = _gunzip(body, limit)
        case other:
            raise BadRequest(f"Content-Encoding '{other[:40]}' is not supported: send gzip, or none", field="body")
    if len(inflated) > limit:
        raise PayloadTooLarge(f"the body is larger than {limit} bytes")
    return inflated


def _gunzip(body: bytes, limit: int) -> bytes:
    inflater = zlib.decompressobj(_GZIP)
    try:
        inflated = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadRequest("the body is not valid gzip", field="body") from error
    if len(inflated) <= limit and not inflater.eof:
        raise BadRequest("the gzip body ends too early", field="body")
    if inflater.unused_data:
        raise BadRequest("the gzip body has bytes after its end", field="body")
    return inflated
