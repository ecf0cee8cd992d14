"""How deep JSON is nested, before a decoder follows it down: decoders recurse, and their limit is that of the stack.

Every step goes over the whole text at once. Texts come from strangers, and everybody waits meanwhile: a loop over
400 KB of brackets takes a quarter of a second, and a pattern that looks for the end of each string may take minutes.
"""

from itertools import accumulate
from typing import Final

from msgspec import Raw

_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""One level down, and one up: -1 as a signed byte."""

_NO_STEPS: Final = bytes(set(range(256)) - set(b"[{]}"))


def is_deeper(text: Raw | str, levels: int) -> bool:
    """Whether arrays and objects stand in each other more than `levels` deep, in a text that is JSON or is refused.

    Of a text that is not JSON it tells at least the depth up to where it stops being so, which is as far as a decoder
    follows it.
    """
    raw = text.encode(errors="surrogatepass") if isinstance(text, str) else bytes(text)
    if raw.count(b"{") + raw.count(b"[") <= levels:  # true of nearly every text, and quick to see
        return False
    if b"\\" in raw:  # then a quote may be one that ends no string
        raw = raw.replace(b"\\\\", b"").replace(b'\\"', b"")
    outside_strings = b"".join(raw.split(b'"')[::2])
    steps = outside_strings.translate(_STEPS, _NO_STEPS)
    return max(accumulate(memoryview(steps).cast("b")), default=0) > levels
