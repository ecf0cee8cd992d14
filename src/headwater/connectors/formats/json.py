"""JSON: reads a list of objects record by record and keeps the text of each value; writes such a list.

A record is found with the scanner of Python's `json` module and split by msgspec, which keeps the text of numbers. The
text in memory is at most one block and one record.
"""

import codecs
import json
import re
import secrets
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, Final

import msgspec
from msgspec import Raw

from headwater.connectors.catalogue.file_formats import JsonDestinationSettings, JsonProperty, JsonSourceSettings
from headwater.connectors.contract import Column, FileReader, FileRow, InvalidFile, RowRead, RowWriter
from headwater.connectors.formats.columns import check_text
from headwater.connectors.formats.values import ToDocument, document_writer
from headwater.schemas import MISSING, InvalidValue, Json, JsonType, Missing, Value

_BLOCK_BYTES: Final = 1 << 18
MAX_RECORD_CHARACTERS: Final = 2 << 20
"""Maximum length of a record. A file with a longer one is invalid, so that one record cannot fill the memory."""
MAX_KEY_CHARACTERS: Final = 1_000
"""Maximum length of the member that the list is in."""
_SIGNATURE_BYTES: Final = 16
"""Enough of a file to recognise well-known contents."""
_MAX_TOKEN_CHARACTERS: Final = 16
"""Longer than any token that may be cut at the end of a block, other than strings."""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_BOM: Final = "\ufeff"
_ESCAPED: Final = re.compile("[&'<>\u2028\u2029]")
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f]")
_INDENTATION: Final = re.compile(r"^ *", re.MULTILINE)
_ESCAPE: Final = re.compile(r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4}|\\u[0-9a-fA-F]{4}|\\.")
_JSON: Final = JsonType()

_members = msgspec.json.Decoder(dict[str, Raw]).decode
_encode = msgspec.json.Encoder().encode


class _Source:
    """The text of a stream, as far as it is needed."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._position = 0
        self.text = ""
        self.start = 0
        """The position in `text` up to which it has been read."""
        self.is_complete = False
        data = self._read(max(_BLOCK_BYTES, _SIGNATURE_BYTES))
        check_text(data, "JSON")
        self._append(data)
        self.start = int(self.text.startswith(_BOM))

    def fill(self, characters: int = _BLOCK_BYTES) -> None:
        """Read at least one more block, and forget what has been read."""
        self._append(self._read(max(characters, _BLOCK_BYTES)))

    def next(self) -> str:
        """Return the next character that is not a space, without reading it; empty at the end."""
        while True:
            found = _SPACE.match(self.text, self.start)
            assert found is not None
            self.start = found.end()
            if self.start < len(self.text) or self.is_complete:
                return self.text[self.start : self.start + 1]
            self.fill()

    def skip(self, character: str) -> bool:
        """Read the next character if it is this one."""
        if self.next() != character:
            return False
        self.start += 1
        return True

    def _read(self, size: int) -> bytes:
        pieces = []
        while size > 0 and (data := self._stream.read(size)):
            pieces.append(data)
            size -= len(data)
        return b"".join(pieces)

    def _append(self, data: bytes) -> None:
        self.is_complete = not data
        pending = len(self._decoder.getstate()[0])
        try:
            more = self._decoder.decode(data, final=self.is_complete)
        except UnicodeDecodeError as error:
            byte = self._position - pending + error.start
            raise InvalidFile(
                f"the file is not text in UTF-8: its byte {byte + 1:,} is 0x{error.object[error.start]:02X}"
            ) from None
        self._position += len(data)
        self.text = self.text[self.start :] + more
        self.start = 0


class _Scanner:
    """Finds the ends of JSON values."""

    def __init__(self) -> None:
        self.repeated: str | None = None
        """A member that occurs twice in an object of the last value."""
        decoder = json.JSONDecoder(
            object_pairs_hook=self._check, parse_float=str, parse_int=str, parse_constant=_refuse_constant
        )
        self._decode = decoder.raw_decode

    def end(self, text: str, start: int) -> int:
        """Return the position after the value at `start`. Raises ValueError, RecursionError."""
        self.repeated = None
        _, end = self._decode(text, start)
        return end

    def _check(self, pairs: list[tuple[str, object]]) -> None:
        if len(dict(pairs)) < len(pairs):
            self.repeated = Counter(name for name, _ in pairs).most_common(1)[0][0]


class _JsonReader:
    """Implements `FileReader`."""

    total_rows = None

    def __init__(self, stream: BinaryIO, properties: Sequence[JsonProperty]) -> None:
        self.columns = tuple(
            Column(name=property.key, type=_JSON, nullable=False, read_optional=property.value == "f")
            for property in properties
        )
        self._wanted = [(property.key, property.value == "f") for property in properties]
        self._source = _Source(stream)
        self._scanner = _Scanner()
        self._is_object = self._open()

    def rows(self) -> Iterator[RowRead]:
        source = self._source
        number = 0
        if not source.skip("]"):
            while True:
                number += 1
                yield self._record(number, self._next_record(number))
                if source.skip(","):
                    continue
                if source.skip("]"):
                    break
                self._fail(f"record {number:,} is not followed by a comma or the end of the list")
        self._close()

    def _open(self) -> bool:
        """Read the beginning, and return whether the list is in an object."""
        source = self._source
        if not source.next():
            raise InvalidFile("the file is empty")
        if source.skip("["):
            return False
        if not source.skip("{"):
            raise InvalidFile("the file is not JSON with a list of objects")
        if source.next() != '"':
            self._fail("the object has no member that is a list of objects")
        source.start = self._end("the name of the list", MAX_KEY_CHARACTERS)
        if not source.skip(":") or not source.skip("["):
            self._fail(
                "the member of the object is not a list of objects. A file with one object on each line "
                "(JSON Lines) is not supported: write the objects as a list"
            )
        return True

    def _close(self) -> None:
        source = self._source
        if self._is_object and not source.skip("}"):
            self._fail(
                "the object has more members than the list" if source.next() == "," else "the object is not closed"
            )
        if source.next():
            raise InvalidFile("the file has other data after its end")

    def _next_record(self, number: int) -> str:
        source = self._source
        if source.next() != "{":
            self._fail(f"record {number:,} is not an object")
        end = self._end(f"record {number:,}", MAX_RECORD_CHARACTERS)
        text = source.text[source.start : end]
        source.start = end
        return text

    def _end(self, name: str, max_characters: int) -> int:
        """Return the position after the next value. Raises InvalidFile if it is not valid or too long."""
        source = self._source
        too_long = InvalidFile(f"{name} is longer than {max_characters:,} characters")
        while True:
            try:
                end = self._scanner.end(source.text, source.start)
                if end - source.start > max_characters:
                    raise too_long
                return end
            except RecursionError:
                raise InvalidFile(f"{name} is nested too deeply") from None
            except json.JSONDecodeError as error:
                is_cut = error.pos + _MAX_TOKEN_CHARACTERS > len(source.text) or error.msg.startswith("Unterminated")
                if not is_cut or source.is_complete:
                    message = "ends in the middle; the file is truncated" if is_cut else f"is not JSON: {error.msg}"
                    raise InvalidFile(f"{name} {message}") from None
            except ValueError as error:
                raise InvalidFile(f"{name} is not JSON: {error}") from None
            waiting = len(source.text) - source.start
            if waiting > max_characters:
                raise too_long
            source.fill(min(waiting, max_characters - waiting + 1))

    def _record(self, number: int, text: str) -> RowRead:
        if self._scanner.repeated is not None:
            return RowRead(number=number, error=f"the record has the member {_shown(self._scanner.repeated)} twice")
        try:
            members = _members(text)
        except RecursionError:
            return RowRead(number=number, error="the record is nested too deeply")
        except (msgspec.DecodeError, UnicodeError):  # the scanner has found all other faults
            return RowRead(number=number, error="the record has a text that is not valid Unicode")
        values: list[Value | Missing] = []
        for key, is_optional in self._wanted:
            raw = members.get(key)
            if raw is None:
                if not is_optional:
                    return RowRead(number=number, error=f"the record has no property {key}")
                values.append(MISSING)
                continue
            try:
                values.append(_json_value(bytes(raw)))
            except InvalidValue as error:
                return RowRead(number=number, error=f"the property {key} {error.rule}")
        return RowRead(number=number, values=tuple(values))

    def _fail(self, message: str) -> None:
        raise InvalidFile(message if self._source.next() else f"{message}; the file is truncated")


def _json_value(raw: bytes) -> Json:
    """Return a value as it is in the file, but for escapes that JSON does not need: two texts are one value."""
    if b"\\u" in raw:
        raw = _ESCAPE.sub(_unescape, raw.decode()).encode()
    return Json.parse(raw) if raw[0] in b"{[" else Json(raw.decode())


def _unescape(found: re.Match[str]) -> str:
    if not found[0].startswith("\\u"):
        return found[0]
    character: str = json.loads(f'"{found[0]}"')
    return found[0] if character in '"\\' or character < " " else character


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


class _JsonWriter:
    """Implements `RowWriter`."""

    def __init__(self, stream: BinaryIO, columns: Sequence[Column], settings: JsonDestinationSettings) -> None:
        self._stream = stream
        self._settings = settings
        self._token = secrets.token_hex(16)
        """Marks literals that JSON does not have until the text is complete."""
        self._columns: list[tuple[str, ToDocument]] = [
            (column.name, document_writer(column.type, self._special)) for column in columns
        ]
        self._is_first = True
        stream.write(b'{\n\t"records": [' if settings.indent else b'{"records":[')

    @property
    def _special(self) -> str | None:
        return self._token if self._settings.allow_special_floats else None

    def write(self, rows: Sequence[FileRow]) -> None:
        if not rows:
            return
        encode = self._indented if self._settings.indent else _encode
        separator = b",\n" if self._settings.indent else b","
        start = b"\n" if self._settings.indent else b""
        text = separator.join([encode(self._document(row)) for row in rows])
        self._stream.write((start if self._is_first else separator) + self._escaped(text))
        self._is_first = False

    def close(self) -> None:
        """Write the end of the list."""
        end = b"]}"
        if self._settings.indent:
            end = b"]\n}\n" if self._is_first else b"\n\t]\n}\n"
        self._stream.write(end)

    def _document(self, row: FileRow) -> dict[str, Any]:
        return {
            name: None if value is None else write(value)
            for (name, write), value in zip(self._columns, row, strict=True)
            if value is not MISSING
        }

    def _indented(self, document: dict[str, Any]) -> bytes:
        text = msgspec.json.format(_encode(document), indent=1).decode()
        return _INDENTATION.sub(lambda spaces: "\t\t" + "\t" * len(spaces[0]), text).encode()

    def _escaped(self, encoded: bytes) -> bytes:
        text = encoded.decode()
        if self._special is not None and self._token in text:
            text = text.replace(f'"{self._token}', "").replace(f'{self._token}"', "")
        text = _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        if self._settings.generate_ascii and not text.isascii():
            text = _NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], text)
        return text.encode()


class JsonFormat:
    """Implements `FileFormat`. With the settings for writing it reads no properties."""

    content_type = "application/json"
    needs_seeking = False

    def __init__(self, settings: JsonSourceSettings | JsonDestinationSettings) -> None:
        if isinstance(settings, JsonSourceSettings):
            self._properties = settings.properties
            self._destination = JsonDestinationSettings()
        else:
            self._properties = ()
            self._destination = settings

    def sheets(self, stream: BinaryIO) -> tuple[str, ...]:
        return ()

    @contextmanager
    def read(self, stream: BinaryIO, sheet: str) -> Iterator[FileReader]:
        yield _JsonReader(stream, self._properties)

    @contextmanager
    def write(self, stream: BinaryIO, columns: Sequence[Column], sheet: str) -> Iterator[RowWriter]:
        writer = _JsonWriter(stream, columns, self._destination)
        yield writer
        writer.close()


def _shown(name: str) -> str:
    return json.dumps(name if len(name) <= 60 else name[:60] + "…", ensure_ascii=False)
