"""Compares the links of a resolution of all identities with the stored ones, and unites identities that values link."""

from collections.abc import Iterable

from headwater.profiles.components import unite_holders
from headwater.profiles.evidence import SAME_NAME
from headwater.profiles.scanning import Scan
from headwater.state.profiles.model import LinkValue
from headwater.state.profiles.resolving import LinkKey, LinkRow
from headwater.state.profiles.sorting import NumberedLink


class LinkComparison:
    """Compares the sorted links of a scan with the stored ones, and unites the identities that a value links."""

    def __init__(self, scan: Scan) -> None:
        self._scan = scan
        self._limits = [each.max_identities for each in scan.settings.identifiers]
        self._waiting: list[NumberedLink] = []
        """The links that were taken from the sorter and not compared."""
        self._is_exhausted = False
        self._stored: dict[LinkKey, int] = {}
        self._upper: LinkKey | None = None
        self._value: tuple[int, str] = (SAME_NAME, "")
        self._holders: list[tuple[int, int]] = []
        """The holders of the present value, with their masks."""

    @property
    def identities(self) -> int:
        """Return the number of identities."""
        return len(self._scan.ids)

    def start(self, stored: Iterable[LinkRow], upper: LinkKey | None) -> None:
        """Compare with these stored links: all those above the last ones up to the upper key; None for no end."""
        self._stored = {(identifier, value, identity): mask for identifier, value, identity, mask in stored}
        self._upper = upper

    def compare(self, limit: int) -> tuple[list[LinkRow], list[LinkKey], bool]:
        """Compare about `limit` links. Return those to write and those to delete, both sorted, and whether everything
        up to the upper key is compared."""
        links, is_last = self._some(limit)
        self._unite_some(links)
        ids, stored = self._scan.ids, self._stored
        written = [
            (identifier, value, ids[number], mask) for identifier, value, number, mask in links if identifier >= 0
        ]
        if stored:
            written = [row for row in written if stored.pop(row[:3], None) != row[3]]
        if not is_last:
            return written, [], False
        if self._upper is None:
            self._unite()
        removed, self._stored = sorted(self._stored), {}
        return written, removed, True

    def _some(self, limit: int) -> tuple[list[NumberedLink], bool]:
        """Take the next links up to the upper key. Return them, and whether they are the last of these."""
        links, self._waiting = self._waiting, []
        if len(links) < limit and not self._is_exhausted:
            more = self._scan.sorter.take(limit)
            self._is_exhausted = not more
            links += more
        if self._upper is None or not links or self._key(links[-1]) <= self._upper:
            return links, self._is_exhausted
        low, high = 0, len(links) - 1  # the first link above the upper key is one of these
        while low < high:
            middle = (low + high) // 2
            if self._key(links[middle]) > self._upper:
                high = middle
            else:
                low = middle + 1
        self._waiting = links[low:]
        return links[:low], True

    def _key(self, link: NumberedLink) -> LinkKey:
        return link[0], link[1], self._scan.ids[link[2]]

    def _unite_some(self, links: list[NumberedLink]) -> None:
        """Unite the holders of the values whose links have all been read."""
        present, text = self._value
        holders = self._holders
        for identifier, value, number, mask in links:
            if value != text or identifier != present:
                if len(holders) > 1:
                    self._value, self._holders = (present, text), holders
                    self._unite()
                present, text, holders = identifier, value, []
            holders.append((number, mask))
        self._value, self._holders = (present, text), holders

    def _unite(self) -> None:
        """Unite the holders of the present value."""
        holders, self._holders = self._holders, []
        if len(holders) < 2:
            return
        identifier, value = self._value
        sets = self._scan.sets
        if identifier == SAME_NAME:
            for number, _ in holders:
                sets.unite(holders[0][0], number)
        elif len(holders) > self._limits[identifier]:
            self._scan.over.add(LinkValue(identifier, value))
        else:
            unite_holders(holders, sets.unite)
