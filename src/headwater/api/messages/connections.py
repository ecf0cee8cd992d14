"""The list of connections as JSON text, from the same messages that the gateway would write as JSON, and equal to it.

Most of such a text are schemas, and mostly the same ones, above all that of events: the text of each is made once. The
gateway would write them all again, and hold the whole of it meanwhile (decision 0016).
"""

from collections.abc import Collection, Iterator
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec
from google.protobuf import json_format

from headwater.v1 import connections_pb2 as pb
from headwater.v1 import schemas_pb2

PIECE_BYTES: Final = 512 * 1024
"""Maximum size of a piece: the gateway buffers less than this where the caller reads slowly."""

_SCHEMAS: Final[tuple[tuple[Literal["in_schema", "out_schema"], str], ...]] = (
    ("in_schema", "inSchema"),
    ("out_schema", "outSchema"),
)
_encoder: Final = msgspec.json.Encoder()


def to_document(message: pb.Connection) -> dict[str, Any]:
    """The connection as `msgspec` encodes it. It is small: schemas are texts that all documents share."""
    bare = pb.Connection()
    bare.CopyFrom(message)
    texts: list[dict[str, msgspec.Raw]] = []
    for pipeline in bare.pipelines:
        texts.append({})
        for field, member in _SCHEMAS:
            if pipeline.HasField(field):
                texts[-1][member] = _schema_text(getattr(pipeline, field).SerializeToString(deterministic=True))
                pipeline.ClearField(field)
    document = _plain(bare)
    for shown, schemas in zip(document["pipelines"], texts, strict=True):
        shown |= schemas
    return document


def with_running(document: dict[str, Any], running: Collection[int]) -> dict[str, Any]:
    """Return a document in which the pipelines in `running` are running. The given one does not change."""
    pipelines = document["pipelines"]
    if not any(pipeline["id"] in running for pipeline in pipelines):
        return document
    return document | {
        "pipelines": [
            {**pipeline, "running": True} if pipeline["id"] in running else pipeline for pipeline in pipelines
        ]
    }


class ListInPieces:
    """Makes the text of {"connections": [...], "nextPageToken": "..."}, in pieces of at most `PIECE_BYTES`."""

    def __init__(self, *, next_page_token: str = "") -> None:
        self._next_page_token = next_page_token
        self._text = bytearray(b'{"connections":[')
        self._is_first = True

    def add(self, document: dict[str, Any]) -> Iterator[bytes]:
        """The pieces that are complete once this connection is added."""
        if not self._is_first:
            self._text += b","
        self._is_first = False
        _encoder.encode_into(document, self._text, -1)
        while len(self._text) > PIECE_BYTES:
            yield bytes(self._text[:PIECE_BYTES])
            del self._text[:PIECE_BYTES]

    def end(self) -> Iterator[bytes]:
        """The remaining pieces."""
        self._text += b'],"nextPageToken":' + _encoder.encode(self._next_page_token) + b"}"
        for start in range(0, len(self._text), PIECE_BYTES):
            yield bytes(self._text[start : start + PIECE_BYTES])


@lru_cache(maxsize=4096)
def _schema_text(serialised: bytes) -> msgspec.Raw:
    return msgspec.Raw(_encoder.encode(_plain(schemas_pb2.DataType.FromString(serialised))))


def _plain(message: pb.Connection | schemas_pb2.DataType) -> dict[str, Any]:
    return json_format.MessageToDict(message, always_print_fields_with_no_presence=True)
