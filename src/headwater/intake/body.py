"""Decodes request bodies: `Content-Type`, `Content-Encoding`, with a limit because a small body may decompress to a
large one, and the byte order mark."""

import re
import zlib
from typing import Final

from headwater.base.errors import BadRequest, PayloadTooLarge

MAX_GZIP_MEMBERS: Final = 1_000
"""Maximum members of one gzip body. Each takes time, even if it is empty."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_ZLIB: Final = zlib.MAX_WBITS
_RAW_DEFLATE: Final = -zlib.MAX_WBITS
_GZIP_MAGIC: Final = b"\x1f\x8b"
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
_PIECE_BYTES: Final = 64 * 1024
"""zlib copies the input that follows the end of a member, so it gets the input in pieces."""
_JSON: Final = re.compile(r'(application/json|text/plain)(\s*;\s*charset\s*=\s*("utf-?8"|utf-?8))?\s*;?', re.IGNORECASE)
"""Web pages send text/plain, because browsers send a preflight request for other types."""


def check_is_json(content_type: str) -> None:
    """Raise BadRequest unless the header is absent or names JSON or text in UTF-8."""
    if content_type.strip() and not _JSON.fullmatch(content_type.strip()):
        raise BadRequest("the Content-Type must be application/json or text/plain, in UTF-8", field="content-type")


def decompress(body: bytes, encoding: str | None, *, limit: int) -> bytes:
    """Return the body without its encoding and without a UTF-8 byte order mark, at most `limit` bytes.

    A gzip body may have several members (RFC 1952), at most MAX_GZIP_MEMBERS, with zero padding after each. Raises
    PayloadTooLarge above the limit, and BadRequest for a body that is corrupt or cut short and for an encoding other
    than gzip and deflate.
    """
    match (encoding or "identity").strip().lower():
        case "identity":
            decompressed = body
        case "gzip" | "x-gzip":
            decompressed = _gunzip(memoryview(body), limit)
        case "deflate":
            window_bits = _ZLIB if _has_zlib_header(body) else _RAW_DEFLATE
            decompressed, rest = _inflate_member(memoryview(body), "deflate", window_bits, limit)
            if rest and len(decompressed) <= limit:
                raise BadRequest("the deflate body has bytes after its end", field="body")
        case other:
            raise BadRequest(
                f"Content-Encoding '{other[:40]}' is not supported: send gzip, deflate or none", field="body"
            )
    if len(decompressed) > limit:
        raise PayloadTooLarge(f"the body is larger than {limit} bytes")
    return decompressed.removeprefix(_BYTE_ORDER_MARK)


def _gunzip(body: memoryview, limit: int) -> bytes:
    """Return all members of the body, or more than `limit` bytes of them."""
    decompressed, rest = _inflate_member(body, "gzip", _GZIP, limit)
    members, size = [decompressed], len(decompressed)
    while size <= limit and (rest := _skip_padding(rest)):
        if bytes(rest[:2]) != _GZIP_MAGIC:
            raise BadRequest("the gzip body has bytes after its end", field="body")
        if len(members) == MAX_GZIP_MEMBERS:
            raise BadRequest(f"the gzip body has more than {MAX_GZIP_MEMBERS} members", field="body")
        decompressed, rest = _inflate_member(rest, "gzip", _GZIP, limit - size)
        members.append(decompressed)
        size += len(decompressed)
    return b"".join(members)


def _inflate_member(data: memoryview, name: str, window_bits: int, limit: int) -> tuple[bytes, memoryview]:
    """Return the decompressed first member of `data`, and the data that follows it.

    Above `limit` only one more byte is decompressed.
    """
    inflater = zlib.decompressobj(window_bits)
    pieces: list[bytes] = []
    size = position = 0
    try:
        while size <= limit and not inflater.eof and position < len(data):
            piece = data[position : position + _PIECE_BYTES]
            position += len(piece)
            pieces.append(inflater.decompress(piece, limit + 1 - size))
            size += len(pieces[-1])
    except zlib.error as error:
        raise BadRequest(f"the body is not valid {name}", field="body") from error
    if size <= limit and not inflater.eof:
        raise BadRequest(f"the {name} body ends too early", field="body")
    return b"".join(pieces), data[position - len(inflater.unused_data) :]


def _skip_padding(data: memoryview) -> memoryview:
    while data:
        piece = bytes(data[:_PIECE_BYTES])
        padding = len(piece) - len(piece.lstrip(b"\0"))
        data = data[padding:]
        if padding < len(piece):
            break
    return data


def _has_zlib_header(body: bytes) -> bool:
    """Return whether the body is deflate as RFC 9110 defines it. Some clients send the raw deflate of RFC 1951."""
    return len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2]) % 31 == 0
