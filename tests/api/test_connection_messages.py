"""The list of connections as JSON text: equal to the gateway's JSON of the same messages, in pieces."""

import json
from typing import Any

import msgspec
import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.api.messages import connections
from headwater.api.messages.connections import ListInPieces, to_document
from headwater.v1 import connections_pb2 as pb
from tests.api.test_pipeline_messages import message
from tests.management.pipelines.strategies import pipelines


def connection(*kinds_and_members: tuple[str, dict[str, Any]]) -> pb.Connection:
    shown = [message(kind, members) for kind, members in kinds_and_members]
    return pb.Connection(id=1, name="ü", linked_connections=[5], sending_mode="Server", pipelines=shown)


def in_pieces(documents: list[dict[str, Any]]) -> list[bytes]:
    pieces = ListInPieces(next_page_token="t")
    return [piece for document in documents for piece in pieces.add(document)] + list(pieces.end())


@settings(max_examples=40, deadline=None)
@given(st.lists(pipelines(), max_size=3))
def test_a_document_is_the_messages_json(given_: list[tuple[str, dict[str, Any]]]) -> None:
    made = connection(*given_)
    before = made.SerializeToString(deterministic=True)
    text = msgspec.json.encode(to_document(made))
    assert json.loads(text) == json_format.MessageToDict(made, always_print_fields_with_no_presence=True)
    assert made.SerializeToString(deterministic=True) == before


def test_schemas_are_shared() -> None:
    """Thousands of pipelines may read events: they share one schema."""
    one, other = (to_document(connection(("SU", {})))["pipelines"][0]["inSchema"] for _ in range(2))
    assert one is other


@pytest.mark.parametrize("count", [0, 1, 2, 7, 50])
@pytest.mark.parametrize("size", [1, 16, 1000])
def test_pieces_make_one_document(monkeypatch: pytest.MonkeyPatch, count: int, size: int) -> None:
    monkeypatch.setattr(connections, "PIECE_BYTES", size)
    documents = [{"id": index, "name": "é" * 20} for index in range(count)]
    pieces = in_pieces(documents)
    assert json.loads(b"".join(pieces)) == {"connections": documents, "nextPageToken": "t"}
    assert {len(piece) for piece in pieces[:-1]} <= {size}
    assert 0 < len(pieces[-1]) <= size


def test_one_connection_may_be_longer_than_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "PIECE_BYTES", 100)
    documents = [{"name": "x" * 1000}] * 3
    assert json.loads(b"".join(in_pieces(documents))) == {"connections": documents, "nextPageToken": "t"}
