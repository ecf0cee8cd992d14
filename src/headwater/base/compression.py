"""Compresses with Zstandard: the module of Python 3.14, and its backport before it."""

import sys

if sys.version_info >= (3, 14):
    from compression.zstd import compress as _compress
    from compression.zstd import decompress as decompress
else:
    from backports.zstd import compress as _compress
    from backports.zstd import decompress as decompress

__all__ = ["compress", "decompress"]


def compress(data: bytes) -> bytes:
    """Compress at level 1: higher levels take more time and were measured to make event documents no smaller."""
    return _compress(data, 1)
