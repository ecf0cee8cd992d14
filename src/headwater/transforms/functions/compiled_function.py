"""A function compiled for one pair of schemas and a purpose: the code around it, and the conversion of its input and
output.

Neither conversion raises for a record. A record that cannot be encoded, or a result that cannot be decoded, has a
`RecordError` as its outcome.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import Any, Final

import msgspec
import structlog

from headwater.base.json_depth import is_deeper
from headwater.base.throttle import Throttle
from headwater.schemas import MAX_DEPTH, MAX_JSON_DEPTH, InvalidValue, Record, Schema, select
from headwater.transforms.functions.contract import Function, FunctionFailed, Outcome, Purpose, RecordError, Results
from headwater.transforms.functions.fast_decode import compile_fast_decoder
from headwater.transforms.functions.input_encoder import compile_encoder
from headwater.transforms.functions.javascript.adapter import adapter as javascript_adapter
from headwater.transforms.functions.python.adapter import adapter as python_adapter
from headwater.transforms.functions.result_decoder import ResultDecoder
from headwater.transforms.limits import MAX_RESULT_CHARACTERS

_MAX_NESTING: Final = MAX_JSON_DEPTH + MAX_DEPTH
_CHUNK_CHARACTERS: Final = 1 << 20
"""Size of the results that are decoded together. It bounds the memory of callers that take outcomes one by one."""
_encode: Final = msgspec.json.Encoder().encode
_encode_lines: Final = msgspec.json.Encoder().encode_lines
_log = structlog.get_logger(__name__)
_throttle: Final = Throttle()


class CompiledFunction:
    """Implements `Program`. The schemas are restricted to the function's paths."""

    def __init__(
        self, function: Function, in_schema: Schema | None, out_schema: Schema | None, purpose: Purpose
    ) -> None:
        self._schemas = in_schema, out_schema
        given = select(in_schema, function.in_paths)
        returned = select(out_schema, function.out_paths)
        self.source = function.source
        if function.language == "JavaScript":
            self.adapter = javascript_adapter(given, returned, function.preserve_json)
        else:
            self.adapter = python_adapter(given, returned)
        self.key = function.owner, sha256(f"{self.adapter}\0{self.source}".encode()).digest()
        write = compile_encoder(given, function.language, function.preserve_json) if given is not None else None
        self._encode_record = write or _encode_nothing
        self._is_split = function.language == "Python"
        decoder = ResultDecoder(function.language, function.preserve_json, purpose)
        shape = decoder.shape(returned) if returned is not None else Any
        self._decode = msgspec.json.Decoder(shape).decode
        self._fast_decode = compile_fast_decoder(returned, decoder) if returned is not None else None
        self._convert = decoder.compile(returned) if returned is not None else _decode_nothing

    def encode(self, records: Sequence[Record]) -> bytes:
        """Return the JSON array for the sandbox, with an object for each record. For Python, `,` and a newline separate
        the objects, and no other newline occurs, so that the array can be split without decoding.

        For a record that cannot be encoded, the array has a string with the reason. The loop in the sandbox returns
        that string as the outcome of the record, without calling the function. Never raises.
        """
        write = self._encode_record
        try:
            documents = [write(record) for record in records]
            if not self._is_split:
                return _encode(documents)
            text = _encode_lines(documents)
        except Exception:  # `_encode_one` finds the record
            text = b""
        if text.count(b"\n") == len(records):
            return b"[" + text[:-1].replace(b"\n", b",\n") + b"]"
        # Values of kind json may contain newlines between their tokens.
        return b"[" + b",\n".join(self._encode_one(record).replace(b"\n", b" ") for record in records) + b"]"

    def _encode_one(self, record: Record) -> bytes:
        try:
            return _encode(self._encode_record(record))
        except UnicodeEncodeError:
            reason = "it has a string with a lone surrogate"
        except RecursionError:
            reason = "it is nested too deeply"
        except Exception as error:
            _log_bug("a record cannot be passed to a function", error)
            reason = "it does not conform to the input schema"
        return _encode(f"the record cannot be passed to the function: {reason}")

    def decode(self, results: Results, count: int) -> list[Outcome]:
        """Return the outcome of each record. Raises FunctionFailed if there are fewer or more lines than records."""
        return list(self.outcomes(results, count))

    def outcomes(self, results: Results, count: int) -> Iterator[Outcome]:
        """Return the outcomes of `decode` lazily, decoded in chunks of about 1 MiB of text.

        Raises FunctionFailed during the call, never during iteration.
        """
        if len(results.text) <= _CHUNK_CHARACTERS and self._fast_decode is not None:
            records = self._decode_together(results.text, count)
            if records is not None:
                return iter(records)
        lines = results.split()
        if len(lines) != count:
            raise FunctionFailed("the function changed the code around it")
        if len(results.text) <= _CHUNK_CHARACTERS:
            return map(self._decode_one, lines)
        return self._decode_chunks(lines)

    def _decode_chunks(self, lines: Sequence[str | RecordError]) -> Iterator[Outcome]:
        for chunk in _chunks(lines):
            records = None
            if self._fast_decode is not None and not any(
                isinstance(line, RecordError) or _is_too_large(line) for line in chunk
            ):
                records = self._decode_together("\n".join(map(str, chunk)).encode(errors="replace"), len(chunk))
            yield from map(self._decode_one, chunk) if records is None else records

    def _decode_together(self, text: bytes, count: int) -> list[Record] | None:
        """Return the records of all lines, or None if they have to be decoded one by one."""
        assert self._fast_decode is not None
        try:
            records = self._fast_decode(text)
        except Exception:  # decoding one by one finds the record, whatever the error
            return None
        return records if len(records) == count else None  # the decoder skips empty lines

    def _decode_one(self, line: str | RecordError) -> Outcome:
        if isinstance(line, RecordError):
            return line
        try:
            if _is_too_large(line):
                raise InvalidValue(f"the result is larger than {MAX_RESULT_CHARACTERS} characters of JSON")
            if is_deeper(line, _MAX_NESTING):
                raise InvalidValue("the result is nested too deeply")
            try:
                members = self._decode(line)
            except msgspec.DecodeError:
                members = _decode_loosely(line)
            outcome: Record = self._convert(members)
        except InvalidValue as error:
            return _invalid(f"«{error.path}» {error.rule}" if error.path else error.rule)
        except RecursionError:
            return _invalid("the result is nested too deeply")
        except Exception as error:
            _log_bug("the result of a function cannot be decoded", error)
            return _invalid("the result cannot be decoded")
        return outcome


def _log_bug(message: str, error: Exception) -> None:
    """Log an unexpected error, at most once a minute: each record of a pipeline may cause it."""
    name = type(error).__name__
    if count := _throttle.passes((message, name)):
        _log.warning(message, error=name, count=count)


def _invalid(message: str) -> RecordError:
    return RecordError("OutputValidation", message.encode(errors="replace").decode())


def _is_too_large(line: str) -> bool:
    return len(line) > MAX_RESULT_CHARACTERS


def _chunks(lines: Iterable[str | RecordError]) -> Iterator[list[str | RecordError]]:
    chunk: list[str | RecordError] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line) if isinstance(line, str) else 0
        if size >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def _decode_loosely(line: str) -> Any:
    """Decode JSON with numbers that are not finite, as Python writes it."""
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise InvalidValue("must be an object that can be written as JSON") from None


def _encode_nothing(record: Record) -> dict[str, Any]:
    return {}


def _decode_nothing(members: Any) -> Record:
    for name in members:
        raise InvalidValue("does not exist in the schema", name[:60])
    return {}
