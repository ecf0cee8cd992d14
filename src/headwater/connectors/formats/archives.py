"""Checks of Zip archives before they are opened: `zipfile` reads the list of their files as a whole."""

import io
import zipfile
from typing import BinaryIO, Final

from headwater.connectors.contract import InvalidFile

METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The methods that decompress in memory of a fixed size."""
ENCRYPTED: Final = 0x1
"""The flag of an encrypted file."""
_FOOTER: Final = b"PK\x05\x06"
_FOOTER_BYTES: Final = 22
_LARGE_FOOTER: Final = b"PK\x06\x06"
_MAX_COMMENT_BYTES: Final = 0xFFFF
_UNKNOWN: Final = 0xFFFFFFFF


def check_directory(stream: BinaryIO, max_bytes: int) -> None:
    """Check that the list of files has at most this size, and fits into the file.

    `zipfile` relies on it: it would ask the streams of storages for a position before their beginning. The stream must
    be able to seek, and is at its beginning afterwards. Raises InvalidFile, also for what is no archive, and for an
    archive without files.
    """
    size = stream.seek(0, io.SEEK_END)
    start = stream.seek(max(size - _MAX_COMMENT_BYTES - _FOOTER_BYTES - 100, 0))
    end = _read_all(stream, size - start)
    stream.seek(0)
    footer = end[-_FOOTER_BYTES:]
    if not (footer.startswith(_FOOTER) and footer.endswith(b"\0\0")):
        found = end.rfind(_FOOTER)
        footer = end[found : found + _FOOTER_BYTES] if found >= 0 else b""
        if len(footer) < _FOOTER_BYTES:
            raise InvalidFile("the file is not a Zip archive, or it is truncated")
    directory = int.from_bytes(footer[12:16], "little")
    if directory == _UNKNOWN:
        found = end.rfind(_LARGE_FOOTER)
        directory = int.from_bytes(end[found + 40 : found + 48], "little") if found >= 0 else 0
    if directory > max_bytes:
        raise InvalidFile("the Zip archive has too many files")
    if not directory:
        raise InvalidFile("the Zip archive has no file")
    if directory > size - _FOOTER_BYTES:
        raise InvalidFile("the Zip archive is truncated")


def _read_all(stream: BinaryIO, size: int) -> bytes:
    pieces = []
    while size > 0 and (data := stream.read(size)):
        pieces.append(data)
        size -= len(data)
    return b"".join(pieces)
