"""Draws the public ids of the profiles that a resolution of all identities makes."""

from os import urandom
from random import SystemRandom
from typing import Final

KPIDS_PER_PREFIX: Final = 4_000
"""Number of successive kpids with the same prefix."""
_PREFIXES: Final = 1 << 16
_RANDOM_BYTES: Final = 14
"""Number of bytes of a kpid after its prefix."""
_VERSION: Final = 4 << 76 | 2 << 62
_MASK: Final = ~(0xF << 76 | 3 << 62)


class KpidSource:
    """Returns the bytes of random UUIDs, version 4, the first `count` of them in ascending order.

    So the index of profiles by kpid grows at one place, or at ascending ones between older profiles, and not at one for
    each profile. `KPIDS_PER_PREFIX` successive ids have the same first two bytes, which are random too; 106 other bits
    of each are random, and sorted within the prefix. An id tells nothing but which of two profiles of one resolution is
    older.
    """

    def __init__(self, count: int) -> None:
        number = min(_PREFIXES, -(-count // KPIDS_PER_PREFIX))
        self._prefixes = sorted(SystemRandom().sample(range(_PREFIXES), number), reverse=True)
        self._next: list[bytes] = []
        """The next ids, in descending order."""

    def __call__(self) -> bytes:
        """Return the next one."""
        if not self._next:
            prefix = self._prefixes.pop().to_bytes(2) if self._prefixes else urandom(2)
            self._next = _draw(prefix, KPIDS_PER_PREFIX)
        return self._next.pop()


def _draw(prefix: bytes, count: int) -> list[bytes]:
    """Return ids in descending order."""
    random = urandom(count * _RANDOM_BYTES)
    values = [
        int.from_bytes(prefix + random[start : start + _RANDOM_BYTES]) & _MASK | _VERSION
        for start in range(0, len(random), _RANDOM_BYTES)
    ]
    values.sort(reverse=True)
    return [value.to_bytes(16) for value in values]
