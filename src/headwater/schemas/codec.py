"""The codec of a schema: records as Python values, and as JSON.

A schema is compiled once; keep the codec. `values` says what the values of each kind are.
"""

from functools import cached_property
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.base.nesting import is_deeper
from headwater.schemas.decoding import Reader, reader_of
from headwater.schemas.encoding import Writer, writer_of
from headwater.schemas.errors import InvalidValue
from headwater.schemas.jsontext import MAX_JSON_DEPTH, refuse_repeats
from headwater.schemas.types import MAX_DEPTH, Schema
from headwater.schemas.values import Record

_MAX_NESTING: Final = MAX_JSON_DEPTH + MAX_DEPTH
_raw = msgspec.json.Decoder(Raw).decode
_encode = msgspec.json.Encoder().encode


class Codec:
    """Reads and writes the records of one schema. Safe to share between threads.

    Either direction is compiled when it is first used.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    @cached_property
    def _read(self) -> Reader:
        return reader_of(self.schema)

    @cached_property
    def _write(self) -> Writer:
        return writer_of(self.schema)

    def decode(self, text: str | bytes, *, trusted: bool = False) -> Record:
        """The record that the JSON text says.

        `trusted` is for texts that an encoder wrote: of a member that an object has twice the last then counts, while
        otherwise it is looked for, which takes longer than everything else. Raises InvalidValue, with the path of the
        value that does not conform, and its text.
        """
        try:
            if isinstance(text, bytes):
                text = text.decode()  # the decoder skips strings that it is not asked for
            if is_deeper(text, _MAX_NESTING):
                raise InvalidValue("is nested too deeply")
            raw = _raw(text)
            if not trusted:
                refuse_repeats(text)
            record: Record = self._read(raw)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise InvalidValue("must be JSON in UTF-8") from error
        return record

    def encode(self, record: Record) -> bytes:
        """The JSON text of the record: members in the order of the schema, those of maps sorted, no spaces.

        Raises InvalidValue, with the path of the value that does not conform.
        """
        return _encode(self._write(record))

    def document(self, record: Record) -> dict[str, Any]:
        """What `encode` encodes, to be put into a larger document; msgspec encodes it."""
        document: dict[str, Any] = self._write(record)
        return document

    def check(self, record: Record) -> None:
        """Raises InvalidValue, with the path of the value, when the record does not conform."""
        self._write(record)
