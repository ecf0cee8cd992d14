"""A function compiled for one pair of schemas and a purpose: the code around it, and the conversion on both sides."""

import json
from collections.abc import Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec

from headwater.schemas import InvalidValue, Record, Schema, select
from headwater.transforms.functions.bulk import bulk_of
from headwater.transforms.functions.contract import Function, FunctionFailed, Outcome, Purpose, RecordError, Results
from headwater.transforms.functions.javascript.adapter import adapter as javascript_adapter
from headwater.transforms.functions.python.adapter import adapter as python_adapter
from headwater.transforms.functions.reading import Reading
from headwater.transforms.functions.writing import writer_of

_encode: Final = msgspec.json.Encoder().encode


class Plan:
    """See `Program`, which it is. The schemas are those of the function's paths."""

    def __init__(
        self, function: Function, in_schema: Schema | None, out_schema: Schema | None, purpose: Purpose
    ) -> None:
        self._kept = in_schema, out_schema
        given = select(in_schema, function.in_paths)
        returned = select(out_schema, function.out_paths)
        self.source = function.source
        if function.language == "JavaScript":
            self.adapter = javascript_adapter(given, returned, function.preserve_json)
        else:
            self.adapter = python_adapter(given, returned)
        self.key = function.owner, sha256(f"{self.adapter}\0{self.source}".encode()).digest()
        write = writer_of(given, function.language, function.preserve_json) if given is not None else None
        self._write = write or _nothing
        reading = Reading(function.language, function.preserve_json, purpose)
        shape = reading.shape(returned) if returned is not None else Any
        self._decode = msgspec.json.Decoder(shape).decode
        self._bulk = bulk_of(returned, reading) if returned is not None else None
        self._read = reading.reader(returned) if returned is not None else _read_nothing

    def encode(self, records: Sequence[Record]) -> bytes:
        """The JSON array that the sandbox is given."""
        write = self._write
        return _encode([write(record) for record in records])

    def decode(self, results: Results, count: int) -> list[Outcome]:
        """The outcome of each record. Raises FunctionFailed when there are not as many lines as records."""
        if self._bulk is not None:
            try:
                records = self._bulk(results.text)
            except (msgspec.DecodeError, InvalidValue):
                pass
            else:
                if len(records) == count:  # empty lines are none to it
                    return list(records)
        lines = results.each()
        if len(lines) != count:
            raise FunctionFailed("the function changed the code around it")
        decode, read = self._decode, self._read
        outcomes: list[Outcome] = []
        for line in lines:
            if isinstance(line, RecordError):
                outcomes.append(line)
                continue
            try:
                try:
                    members = decode(line)
                except msgspec.DecodeError:
                    members = _loosely(line)
                outcomes.append(read(members))
            except InvalidValue as error:
                message = f"«{error.path}» {error.rule}" if error.path else error.rule
                outcomes.append(RecordError("OutputValidation", message))
        return outcomes


def _loosely(line: str) -> Any:
    """The members of what is nearly JSON: with numbers that are not finite, which is how Python writes them."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidValue("must be an object that can be written as JSON") from None


def _nothing(record: Record) -> dict[str, Any]:
    return {}


def _read_nothing(members: Any) -> Record:
    for name in members:
        raise InvalidValue("does not exist in the schema", name[:60])
    return {}
