"""The names of files. A name is a path with "/" below the root of its storage; it cannot lead out of it."""

from typing import Final

from headwater.connectors.contract import InvalidFileName

MAX_NAME_CHARACTERS: Final = 1_024
_MAX_SHOWN_CHARACTERS: Final = 200


def split_name(name: str) -> tuple[str, ...]:
    """Return the parts of a name: folders, then the file. Raises InvalidFileName.

    A "/" at the beginning is ignored. Empty parts, "." and ".." are not valid, and neither are control characters.
    """
    check_characters(name)
    parts = tuple(name.removeprefix("/").split("/"))
    for part in parts:
        if not part:
            raise InvalidFileName('the path contains "//", or ends with "/"', field="path")
        if part in (".", ".."):
            raise InvalidFileName(f'the path contains "{part}" as a folder', field="path")
    return parts


def check_characters(name: str) -> None:
    """Check the length and the characters of a name. Raises InvalidFileName."""
    if not name:
        raise InvalidFileName("the path is empty", field="path")
    if len(name) > MAX_NAME_CHARACTERS:
        raise InvalidFileName(f"the path is longer than {MAX_NAME_CHARACTERS} characters", field="path")
    if any(character < " " or "\x7f" <= character <= "\x9f" for character in name):
        raise InvalidFileName("the path contains a control character", field="path")
    if any("\ud800" <= character <= "\udfff" for character in name):
        raise InvalidFileName("the path contains half of a surrogate pair", field="path")


def shown(name: str) -> str:
    """Return a name for messages: in quotation marks, and cut if it is long."""
    return f'"{name[:_MAX_SHOWN_CHARACTERS]}…"' if len(name) > _MAX_SHOWN_CHARACTERS else f'"{name}"'
