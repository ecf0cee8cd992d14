"""Encodes and decodes the records of a schema: Python values and JSON.

Compiling takes much longer than decoding a record, so keep the codec. `values` lists the Python class of each kind.
"""

from functools import cached_property
from typing import Any, Final

import msgspec
from msgspec import Raw

from headwater.base.json_depth import is_deeper
from headwater.schemas.decoding import Decoder, compile_decoder
from headwater.schemas.encoding import Encoder, compile_encoder
from headwater.schemas.errors import InvalidValue
from headwater.schemas.json_value import MAX_JSON_DEPTH, reject_repeats
from headwater.schemas.types import MAX_DEPTH, Schema
from headwater.schemas.values import Record

_MAX_NESTING: Final = MAX_JSON_DEPTH + MAX_DEPTH
_raw = msgspec.json.Decoder(Raw).decode
_encode = msgspec.json.Encoder().encode


class Codec:
    """Encodes and decodes the records of one schema. Safe to share between threads.

    Each direction is compiled on first use.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    @cached_property
    def _read(self) -> Decoder:
        return compile_decoder(self.schema)

    @cached_property
    def _write(self) -> Encoder:
        return compile_encoder(self.schema)

    def decode(self, text: str | bytes, *, trusted: bool = False) -> Record:
        """Return the record in the JSON text.

        `trusted` is for texts that an encoder wrote: the last of repeated members wins. Otherwise repeated members are
        an error, and the search for them takes longer than the rest. Raises InvalidValue with the path and text of the
        value that does not conform.
        """
        try:
            if isinstance(text, bytes):
                text = text.decode()  # the decoder does not validate strings that it skips
            if is_deeper(text, _MAX_NESTING):
                raise InvalidValue("is nested too deeply")
            raw = _raw(text)
            if not trusted:
                reject_repeats(text)
            record: Record = self._read(raw)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise InvalidValue("must be JSON in UTF-8") from error
        return record

    def encode(self, record: Record) -> bytes:
        """Return the JSON text of the record: members in the order of the schema, map keys sorted, no spaces.

        Raises InvalidValue with the path of the value that does not conform.
        """
        return _encode(self._write(record))

    def document(self, record: Record) -> dict[str, Any]:
        """Return the value that `encode` encodes, for use in a larger document that msgspec encodes."""
        document: dict[str, Any] = self._write(record)
        return document

    def check(self, record: Record) -> None:
        """Raise InvalidValue with the path of the value if the record does not conform."""
        self._write(record)
