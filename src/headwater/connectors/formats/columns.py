"""The columns of files: their names, and contents that are not in the format at all."""

from collections.abc import Sequence
from typing import Final

from headwater.connectors.contract import MAX_COLUMNS, Column, InvalidFile, NoColumns
from headwater.schemas import StringType, suggest_property_name

_TEXT: Final = StringType()
_MAX_SHOWN_CHARACTERS: Final = 60

_SIGNATURES: Final = (
    (b"PK\x03\x04", "a Zip archive or a workbook"),
    (b"PK\x05\x06", "an empty Zip archive"),
    (b"\x1f\x8b", "compressed with Gzip"),
    (b"\xff\x06\x00\x00sNaPpY", "compressed with Snappy"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard"),
    (b"BZh", "compressed with bzip2"),
    (b"PAR1", "Parquet"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old or encrypted Office document"),
    (b"\xff\xfe", "text in UTF-16"),
    (b"\xfe\xff", "text in UTF-16"),
    (b"%PDF-", "a PDF"),
)


def recognise(start: bytes) -> str | None:
    """Return a description of a well-known content that is not text in UTF-8, from its first bytes."""
    return next((name for signature, name in _SIGNATURES if start.startswith(signature)), None)


def check_text(start: bytes, format: str) -> None:
    """Raise InvalidFile if the first bytes are those of another, well-known content."""
    found = recognise(start)
    if found is not None:
        advice = "; save it as UTF-8" if "UTF-16" in found else ""
        raise InvalidFile(f"the file is {found}, and not {format}{advice}")


def text_columns(headings: Sequence[str], *, has_names: bool) -> tuple[Column, ...]:
    """Return columns of text from the first row of a file: its names, or letters if it has none.

    Raises InvalidFile if there are no columns or too many of them, if a heading cannot be a name, or if two give the
    same name.
    """
    if not headings:
        raise NoColumns("the file has no columns")
    if len(headings) > MAX_COLUMNS:
        raise InvalidFile(f"the file has {len(headings):,} columns, and the most are {MAX_COLUMNS:,}")
    if any("\0" in heading for heading in headings):
        raise InvalidFile("the first row contains the NUL character; the file may be UTF-16, and must be UTF-8")
    if not has_names:
        return tuple(Column(name=letters(index), type=_TEXT, nullable=False) for index in range(len(headings)))
    found: dict[str, int] = {}
    columns = []
    for number, heading in enumerate(headings, start=1):
        name = suggest_property_name(heading)
        if name is None:
            raise InvalidFile(f"the heading {_shown(heading)} of column {number} cannot be the name of a property")
        if name in found:
            raise InvalidFile(f"the headings of columns {found[name]} and {number} both give the name {name[:60]}")
        found[name] = number
        description = "" if name == heading else heading[:_MAX_DESCRIPTION_CHARACTERS]
        columns.append(Column(name=name, type=_TEXT, nullable=False, description=description))
    return tuple(columns)


_MAX_DESCRIPTION_CHARACTERS: Final = 1_000


def letters(index: int) -> str:
    """Return the letters of a column of a spreadsheet, from 0: A, B … Z, AA."""
    text = ""
    index += 1
    while index:
        index, letter = divmod(index - 1, 26)
        text = chr(ord("A") + letter) + text
    return text


def _shown(heading: str) -> str:
    return repr(heading if len(heading) <= _MAX_SHOWN_CHARACTERS else heading[:_MAX_SHOWN_CHARACTERS] + "…")
