"""Keeps the identities that are in no profile on disk, from their scan until their profiles are written."""

from collections.abc import Iterator, Sequence
from typing import IO, Final

import msgspec

from headwater.state.profiles.model import Evidence

NewMember = tuple[int, int, int, str, int | bool, Evidence]
"""The number of an identity in its scan, its id, its connection, its identity id, whether it is anonymous, and its
evidence."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[NewMember]).decode


class MemberSpool:
    """A list in an empty file. Several threads may use it, one at a time."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._sizes: list[int] = []
        """The size of each part in the file."""

    def add(self, members: Sequence[NewMember]) -> None:
        """Add identities."""
        if members:
            self._sizes.append(self._file.write(_encode(members)))

    def read(self) -> Iterator[list[NewMember]]:
        """Yield the identities in the parts in which they were added. None may be added afterwards."""
        self._file.seek(0)
        for size in self._sizes:
            yield _decode(self._file.read(size))
