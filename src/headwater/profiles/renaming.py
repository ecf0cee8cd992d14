"""Renames and removes attributes of identities after a change of the profile schema. Pure."""

from collections.abc import Iterable
from typing import Final

import msgspec
from msgspec import Raw

from headwater.catalog.profiles import Rename

_BRACE: Final = ord("{")
_decode: Final = msgspec.json.Decoder(dict[str, Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


class AttributeRenamer:
    """Applies renames and removals together, so that two attributes can change their names for each other."""

    def __init__(self, renames: Iterable[Rename]) -> None:
        self._new = {rename.old: rename.new for rename in renames if rename.new != rename.old}
        self._parents = {old[:index] for old in self._new for index, character in enumerate(old) if character == "."}

    def __bool__(self) -> bool:
        """Return whether anything is renamed or removed."""
        return bool(self._new)

    def rename(self, attributes: str) -> str:
        """Return the attributes, a JSON object, with the renamed members; unchanged text if there is none.

        A member that has the new name of another one is replaced by it.
        """
        members = _decode(attributes)
        changed = self._rename(members, "")
        return attributes if changed is members else _encode(changed).decode()

    def _rename(self, members: dict[str, Raw], prefix: str) -> dict[str, Raw]:
        """Return the members of the object at `prefix`; the same dictionary if none changes."""
        kept: dict[str, Raw] = {}
        moved: dict[str, Raw] = {}
        is_changed = False
        for name, value in members.items():
            path = prefix + name
            if path in self._parents and memoryview(value)[0] == _BRACE:
                inner = _decode(value)
                renamed = self._rename(inner, f"{path}.")
                if renamed is not inner:
                    value, is_changed = Raw(_encode(renamed)), True
            if path not in self._new:
                kept[name] = value
                continue
            is_changed = True
            if (new := self._new[path]) is not None:
                moved[new.rpartition(".")[2]] = value
        return {**kept, **moved} if is_changed else members
