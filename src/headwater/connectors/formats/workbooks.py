"""Reads workbooks of Excel as a stream: sheets, rows and the values of cells as they are stored.

A workbook is a Zip archive of XML files. They are parsed by expat piece by piece, so the memory does not depend on the
size of a sheet. Document types, and so entities, are refused. Formulas are not read; cells have their last results.
"""

import os
import posixpath
import re
import tempfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from decimal import Decimal
from types import TracebackType
from typing import BinaryIO, Final, NamedTuple, Self
from xml.parsers import expat

from headwater.connectors.contract import InvalidFile
from headwater.connectors.formats.archives import ENCRYPTED, METHODS, check_directory

MAX_PART_BYTES: Final = 4 << 30
"""Maximum size of a decompressed sheet, and of the decompressed texts of all sheets."""
MAX_DESCRIPTION_BYTES: Final = 16 << 20
"""Maximum size of each decompressed description: the sheets, their files, the styles."""
MAX_VALUE_CHARACTERS: Final = 1 << 20
MAX_COLUMNS: Final = 16_384
_MAX_DIRECTORY_BYTES: Final = 4 << 20
_MAX_SILENT_BYTES: Final = 4 << 20
"""Maximum size of an element's start, or of a comment: expat keeps them in memory until they end."""
_MAX_OPEN_ELEMENTS: Final = 1_000
"""Maximum nesting of elements, checked after each piece: expat keeps the names of those that are open."""
_PIECE_BYTES: Final = 1 << 16
_MAX_TEXTS_BYTES: Final = 24 << 20
"""Shared texts beyond this size are kept in a file."""

_MAIN: Final = (
    "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
    "http://purl.oclc.org/ooxml/spreadsheetml/main",
)
_RELATIONS: Final = (
    "http://schemas.openxmlformats.org/officeDocument/2006/relationships",
    "http://purl.oclc.org/ooxml/officeDocument/relationships",
)
_NAMES: Final = {
    f"{namespace} {name}": name
    for namespace in _MAIN
    for name in ("row", "c", "v", "is", "t", "rPh", "si", "sheet", "workbookPr", "numFmt", "cellXfs", "xf", "sheetData")
}
_RELATION: Final = "http://schemas.openxmlformats.org/package/2006/relationships Relationship"
_IDS: Final = tuple(f"{namespace} id" for namespace in _RELATIONS)

_LETTERS: Final = re.compile(r"[A-Z]{1,3}")
_ESCAPE: Final = re.compile(r"_x([0-9A-Fa-f]{4})_")
_DATE_FORMATS: Final = frozenset((14, 15, 16, 17, 22, *range(27, 32), 34, 35, 36, *range(50, 59)))
"""Formats of dates that every workbook has."""
_NOT_A_TOKEN: Final = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.|General', re.DOTALL | re.IGNORECASE)
_DAYS_OF_1904: Final = 1_462
"""Days between the first days of the two systems of dates."""


class Sheet(NamedTuple):
    name: str
    part: str
    """The name of its file in the archive."""


class Workbook(AbstractContextManager["Workbook"]):
    """An open workbook."""

    def __init__(self, stream: BinaryIO) -> None:
        check_directory(stream, _MAX_DIRECTORY_BYTES)
        try:
            self._archive = zipfile.ZipFile(stream)
        except (zipfile.BadZipFile, NotImplementedError, UnicodeDecodeError) as error:
            raise InvalidFile(f"the workbook is damaged: {_reason(error)}") from None
        path = self._main_part()
        relations = self._relations(path)
        self.sheets, self._counts_from_1904 = self._read_sheets(path, relations)
        self._texts_part = next((target for kind, target in relations.values() if kind == "sharedStrings"), "")
        self._styles_part = next((target for kind, target in relations.values() if kind == "styles"), "")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._archive.close()

    def rows(self, sheet: Sheet) -> Iterator[tuple[int, list[str]]]:
        """Return the rows that have a value, each with its number, up to its last value."""
        dates = self._date_styles() if self._counts_from_1904 else frozenset()
        with _Texts() as texts:
            if self._texts_part in self._archive.namelist():
                for _ in _parse(self._pieces(self._texts_part, MAX_PART_BYTES), _TextHandler(texts.append)):
                    pass
            rows: list[tuple[int, list[str]]] = []
            handler = _SheetHandler(rows.append, texts, dates)
            for _ in _parse(self._pieces(sheet.part, MAX_PART_BYTES), handler):
                yield from rows
                rows.clear()

    def _main_part(self) -> str:
        for kind, target in self._relations("").values():
            if kind == "officeDocument":
                if target.endswith(".bin"):
                    raise InvalidFile("the file is a binary workbook; save it as .xlsx")
                return target
        raise InvalidFile("the file is not a workbook of Excel (.xlsx)")

    def _relations(self, part: str) -> dict[str, tuple[str, str]]:
        """Return the kind and the name of each file that `part` refers to, by its identifier."""
        folder, name = posixpath.split(part)
        found: dict[str, tuple[str, str]] = {}

        def start(element: str, attributes: dict[str, str]) -> None:
            if element == _RELATION and attributes.get("TargetMode") != "External":
                target = posixpath.normpath(posixpath.join("/", folder, attributes.get("Target", "")))
                kind = attributes.get("Type", "").rpartition("/")[2]
                found[attributes.get("Id", "")] = (kind, target.lstrip("/"))

        relations = posixpath.join(folder, "_rels", f"{name}.rels")
        if relations in self._archive.namelist():
            self._describe(relations, start)
        return found

    def _read_sheets(self, part: str, relations: dict[str, tuple[str, str]]) -> tuple[tuple[Sheet, ...], bool]:
        sheets: list[Sheet] = []
        counts_from_1904 = False

        def start(element: str, attributes: dict[str, str]) -> None:
            nonlocal counts_from_1904
            match _NAMES.get(element):
                case "sheet":
                    id_ = next((attributes[name] for name in _IDS if name in attributes), "")
                    kind, target = relations.get(id_, ("", ""))
                    if kind == "worksheet":
                        sheets.append(Sheet(attributes.get("name", ""), target))
                case "workbookPr":
                    counts_from_1904 = attributes.get("date1904", "") in ("1", "true", "on")

        self._describe(part, start)
        return tuple(sheets), counts_from_1904

    def _date_styles(self) -> frozenset[str]:
        """Return the numbers of the styles that show a number as a day."""
        formats: dict[str, str] = {}
        styles: list[str] = []
        is_inside = False

        def start(element: str, attributes: dict[str, str]) -> None:
            nonlocal is_inside
            match _NAMES.get(element):
                case "numFmt":
                    formats[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")
                case "cellXfs":
                    is_inside = True
                case "xf" if is_inside:
                    styles.append(attributes.get("numFmtId", ""))

        def end(element: str) -> None:
            nonlocal is_inside
            if _NAMES.get(element) == "cellXfs":
                is_inside = False

        if self._styles_part in self._archive.namelist():
            self._describe(self._styles_part, start, end)
        return frozenset(str(number) for number, id_ in enumerate(styles) if _is_date(id_, formats.get(id_)))

    def _describe(
        self, part: str, start: Callable[[str, dict[str, str]], None], end: Callable[[str], None] | None = None
    ) -> None:
        for _ in _parse(self._pieces(part, MAX_DESCRIPTION_BYTES), _Description(start, end)):
            pass

    def _pieces(self, part: str, max_bytes: int) -> Iterator[bytes]:
        """Return a decompressed file of the archive."""
        try:
            entry = self._archive.getinfo(part)
        except KeyError:
            raise InvalidFile(f"the workbook is damaged: it has no {part[:100]}") from None
        if entry.flag_bits & ENCRYPTED:
            raise InvalidFile("the workbook is encrypted")
        if entry.compress_type not in METHODS:
            raise InvalidFile("the workbook is compressed with another method than Deflate")
        size = 0
        try:
            with self._archive.open(entry) as content:
                while piece := content.read(_PIECE_BYTES):
                    size += len(piece)
                    if size > max_bytes:
                        raise InvalidFile(f"a part of the workbook is larger than {max_bytes:,} bytes")
                    yield piece
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
            raise InvalidFile(f"the workbook is damaged: {_reason(error)}") from None


class _Handler:
    """Receives the elements of a file. `started` and `ended` count them."""

    started = 0
    ended = 0

    def start(self, element: str, attributes: dict[str, str]) -> None: ...

    def end(self, element: str) -> None: ...

    def data(self, text: str) -> None: ...


class _Description(_Handler):
    """Receives the elements of a description."""

    def __init__(self, start: Callable[[str, dict[str, str]], None], end: Callable[[str], None] | None) -> None:
        self._start = start
        self._end = end

    def start(self, element: str, attributes: dict[str, str]) -> None:
        self.started += 1
        self._start(element, attributes)

    def end(self, element: str) -> None:
        self.ended += 1
        if self._end is not None:
            self._end(element)


class _Value(_Handler):
    """Collects the text of elements."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._size = 0
        self._collects = False

    def data(self, text: str) -> None:
        if self._collects:
            self._pieces.append(text)
            self._size += len(text)
            if self._size > MAX_VALUE_CHARACTERS:
                raise InvalidFile(f"the workbook has a value of more than {MAX_VALUE_CHARACTERS:,} characters")

    def _take(self) -> str:
        text = "".join(self._pieces)
        self._pieces.clear()
        self._size = 0
        return text


class _TextHandler(_Value):
    """Reads the texts that cells share."""

    def __init__(self, append: Callable[[str], None]) -> None:
        super().__init__()
        self._append = append
        self._phonetic = 0

    def start(self, element: str, attributes: dict[str, str]) -> None:
        self.started += 1
        name = _NAMES.get(element)
        if name == "t":
            self._collects = not self._phonetic
        elif name == "rPh":
            self._phonetic += 1

    def end(self, element: str) -> None:
        self.ended += 1
        name = _NAMES.get(element)
        if name == "t":
            self._collects = False
        elif name == "rPh":
            self._phonetic -= 1
        elif name == "si":
            self._append(_unescape(self._take()))


class _SheetHandler(_Value):
    """Reads the rows of a sheet. `dates` are the styles whose numbers are days since 1904."""

    def __init__(self, append: Callable[[tuple[int, list[str]]], None], texts: "_Texts", dates: frozenset[str]) -> None:
        super().__init__()
        self._append = append
        self._texts = texts
        self._dates = dates
        self._number = 0
        self._column = 0
        self._type = ""
        self._style = ""
        self._row: dict[int, str] = {}
        self._phonetic = 0
        self._columns: dict[str, int] = {}

    def start(self, element: str, attributes: dict[str, str]) -> None:
        self.started += 1
        name = _NAMES.get(element)
        if name == "v":
            self._collects = True
        elif name == "c":
            self._begin_cell(attributes)
        elif name == "t":
            self._collects = not self._phonetic
        elif name == "row":
            self._begin_row(attributes.get("r", ""))
        elif name == "rPh":
            self._phonetic += 1

    def end(self, element: str) -> None:
        self.ended += 1
        name = _NAMES.get(element)
        if name in ("v", "t"):
            self._collects = False
        elif name == "c":
            if self._pieces and (value := self._value(self._take())):
                self._row[self._column] = value
            self._column += 1
        elif name == "row":
            if self._row:
                row = self._row
                self._append((self._number, [row.get(column, "") for column in range(max(row) + 1)]))
                row.clear()
        elif name == "rPh":
            self._phonetic -= 1

    def _begin_row(self, number: str) -> None:
        self._column = 0
        self._number = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else self._number + 1

    def _begin_cell(self, attributes: dict[str, str]) -> None:
        self._type = attributes.get("t", "")
        self._style = attributes.get("s", "0")
        reference = attributes.get("r")
        if reference is not None:
            self._column = self._parse_column(reference)
        if self._column >= MAX_COLUMNS:
            raise InvalidFile(f"row {self._number:,} has more than {MAX_COLUMNS:,} columns")

    def _parse_column(self, reference: str) -> int:
        letters = reference.rstrip("0123456789")
        column = self._columns.get(letters)
        if column is None:
            if not _LETTERS.fullmatch(letters):
                raise InvalidFile(f"row {self._number:,} has a cell with the name {reference[:20]!r}")
            column = 0
            for letter in letters:
                column = column * 26 + ord(letter) - ord("A") + 1
            column = self._columns[letters] = column - 1
        return column

    def _value(self, text: str) -> str:
        match self._type:
            case "s":
                return self._texts.get(text, self._number)
            case "b":
                return "true" if text.strip() == "1" else "false"
            case "str" | "inlineStr":
                return _unescape(text)
            case "" | "n" if self._style in self._dates:
                return _since_1900(text)
            case _:
                return text


class _Texts:
    """Texts by their number. Those beyond a bound are in a file without a name."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._size = 0
        self._ends = array("Q", [0])
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 closed with this object

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def append(self, text: str) -> None:
        if self._size < _MAX_TEXTS_BYTES:
            self._texts.append(text)
            self._size += len(text) + 64  # characters, and what Python needs for the object
        else:
            data = text.encode()
            self._file.write(data)
            self._ends.append(self._ends[-1] + len(data))

    def get(self, number: str, row: int) -> str:
        """Return the text with this number. Raises InvalidFile if there is none."""
        index = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else -1
        kept = len(self._texts)
        if 0 <= index < kept:
            return self._texts[index]
        if not kept <= index < kept + len(self._ends) - 1:
            raise InvalidFile(f"the workbook is damaged: row {row:,} has a text that does not exist")
        self._file.flush()
        start, end = self._ends[index - kept], self._ends[index - kept + 1]
        return os.pread(self._file.fileno(), end - start, start).decode()


def _parse(pieces: Iterator[bytes], handler: _Handler) -> Iterator[None]:
    """Parse a file, and yield after each piece of it. Raises InvalidFile."""
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = _refuse_document_type
    parser.StartElementHandler = handler.start
    parser.EndElementHandler = handler.end
    parser.CharacterDataHandler = handler.data
    silent = 0
    try:
        for piece in pieces:
            started = handler.started
            parser.Parse(piece, False)
            silent = 0 if handler.started > started else silent + len(piece)
            if handler.started - handler.ended > _MAX_OPEN_ELEMENTS:
                raise InvalidFile("the workbook is damaged: its elements are nested too deeply")
            if silent > _MAX_SILENT_BYTES:
                raise InvalidFile("the workbook is damaged: it has an element that does not end")
            yield
        parser.Parse(b"", True)
        yield
    except expat.ExpatError as error:
        raise InvalidFile(f"the workbook is damaged: {error}") from None


def _refuse_document_type(*declaration: object) -> None:
    raise InvalidFile("the workbook has a document type, which workbooks never have")


def _unescape(text: str) -> str:
    """Return a text with the characters that XML does not have."""
    return _ESCAPE.sub(_character, text) if "_x" in text else text


def _character(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return found[0] if 0xD800 <= code <= 0xDFFF else chr(code)


def _is_date(id_: str, code: str | None) -> bool:
    """Return whether a format shows a day, and not only a time of day."""
    if code is None:
        return id_.isdigit() and int(id_) in _DATE_FORMATS
    tokens = _NOT_A_TOKEN.sub("", code).lower()
    return "d" in tokens or "y" in tokens


def _since_1900(text: str) -> str:
    """Return the number of a day in the usual system. The text of other values stays."""
    try:
        return format(Decimal(text) + _DAYS_OF_1904, "f")
    except ArithmeticError:
        return text


def _reason(error: BaseException) -> str:
    return str(error)[:200] or type(error).__name__
