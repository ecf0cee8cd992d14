"""A decoder for tests of consumers: a batch is the list of its entries."""

from headwater.log import StoredEntry


class ListDecoder:
    """Collects entries; each decodes to as many bytes as it has."""

    def __init__(self) -> None:
        self.size = 0
        self.entries: list[StoredEntry] = []

    def add(self, stored: StoredEntry) -> None:
        self.entries.append(stored)
        self.size += stored.entry.size

    def batch(self) -> list[StoredEntry]:
        return self.entries
