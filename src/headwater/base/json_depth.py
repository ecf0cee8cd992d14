"""Measures the nesting of JSON before it is decoded: decoders recurse, so their limit is the stack.

Every step processes the whole text with one call. Texts come from untrusted callers and this runs on the event loop: a
Python loop over 400 KB of brackets takes 250 ms, and a regular expression for strings may take minutes.
"""

from itertools import accumulate
from typing import Final

from msgspec import Raw

_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One level down is 1; one level up is -1 as a signed byte."""

_NO_STEPS: Final = bytes(set(range(256)) - set(b"[{]}"))


def is_deeper(text: Raw | str, levels: int) -> bool:
    """Return whether arrays and objects are nested more than `levels` deep in a text that may be invalid JSON.

    For invalid JSON the result covers at least the valid beginning, which is as far as a decoder reads.
    """
    raw = text.encode(errors="surrogatepass") if isinstance(text, str) else bytes(text)
    if raw.count(b"{") + raw.count(b"[") <= levels:  # true for nearly every text, and fast
        return False
    if b"\\" in raw:  # a quote may be escaped
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(raw.split(b'"')[::2])
    steps = outside_strings.translate(_STEPS, _NO_STEPS)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > levels
