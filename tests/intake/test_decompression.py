"""Compressed bodies: decoded exactly or rejected, and never larger than the limit."""

import codecs
import gzip
import random
import zlib
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headwater.base.errors import BadRequest, HeadwaterError, PayloadTooLarge
from headwater.intake.body import MAX_GZIP_MEMBERS, decompress
from tests.complexity import assert_linear

BODY = b'{"batch":[]}' * 50
COMPRESSED = gzip.compress(BODY, mtime=0)
"""The same in every process, as the names of tests are that are made of it."""


@pytest.mark.parametrize("encoding", [None, "", "identity", " Identity "])
def test_a_body_without_encoding_is_itself(encoding: str | None) -> None:
    assert decompress(BODY, encoding, limit=len(BODY)) == BODY
    with pytest.raises(PayloadTooLarge, match=f"the body is larger than {len(BODY) - 1} bytes"):
        decompress(BODY, encoding, limit=len(BODY) - 1)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", " GZIP "])
def test_gzip_is_undone(encoding: str) -> None:
    assert decompress(gzip.compress(BODY), encoding, limit=len(BODY)) == BODY
    assert decompress(gzip.compress(b""), encoding, limit=0) == b""


def bare(body: bytes) -> bytes:
    """Deflate without the header of zlib, which some clients send."""
    deflater = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return deflater.compress(body) + deflater.flush()


@pytest.mark.parametrize("encoded", [zlib.compress, bare])
def test_deflate_is_undone(encoded: Callable[[bytes], bytes]) -> None:
    assert decompress(encoded(BODY), "deflate", limit=len(BODY)) == BODY
    assert decompress(encoded(b""), " Deflate ", limit=0) == b""
    with pytest.raises(PayloadTooLarge):
        decompress(encoded(BODY), "deflate", limit=len(BODY) - 1)
    with pytest.raises(BadRequest, match="the deflate body ends too early"):
        decompress(encoded(BODY)[:-5], "deflate", limit=10_000)
    with pytest.raises(BadRequest, match="the deflate body has bytes after its end"):
        decompress(encoded(BODY) + b"x", "deflate", limit=10_000)


@pytest.mark.parametrize("body", [b"", b"\x78", BODY, COMPRESSED])
def test_corrupt_deflate_is_rejected(body: bytes) -> None:
    with pytest.raises(BadRequest, match=r"the deflate body ends too early|the body is not valid deflate"):
        decompress(body, "deflate", limit=10_000)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the gzip body ends too early"),
        (BODY, "the body is not valid gzip"),
        (zlib.compress(BODY), "the body is not valid gzip"),
        (COMPRESSED[:-1], "the gzip body ends too early"),
        (COMPRESSED[:20], "the gzip body ends too early"),
        (COMPRESSED[:3], "the gzip body ends too early"),
        (COMPRESSED[:-8] + bytes(8), "the body is not valid gzip"),
        (COMPRESSED + b"x", "the gzip body has bytes after its end"),
        (COMPRESSED + b"\0x", "the gzip body has bytes after its end"),
        (COMPRESSED + COMPRESSED[:-1], "the gzip body ends too early"),
        (COMPRESSED + COMPRESSED[:1], "the gzip body has bytes after its end"),
        (COMPRESSED + COMPRESSED[:2], "the gzip body ends too early"),
        (COMPRESSED + COMPRESSED[:-8] + bytes(8), "the body is not valid gzip"),
        (
            gzip.compress(b"", mtime=0) * (MAX_GZIP_MEMBERS + 1),
            f"the gzip body has more than {MAX_GZIP_MEMBERS} members",
        ),
    ],
)
def test_corrupt_gzip_is_rejected(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest, match=message):
        decompress(body, "gzip", limit=10_000)


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, deflate", "gzip, gzip", "x" * 1000])
def test_another_encoding_is_rejected(encoding: str) -> None:
    with pytest.raises(BadRequest, match="is not supported: send gzip, deflate or none") as raised:
        decompress(BODY, encoding, limit=10_000)
    assert len(raised.value.message) < 120


def test_a_decompression_bomb_is_rejected_early() -> None:
    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    with pytest.raises(PayloadTooLarge):
        decompress(bomb, "gzip", limit=500 * 1024)


@example(codecs.BOM_UTF8, 3)
@given(st.binary(max_size=200), st.integers(0, 220))
def test_gives_the_body_or_rejects_it(body: bytes, limit: int) -> None:
    compressed = gzip.compress(body)
    if len(body) <= limit:
        assert decompress(compressed, "gzip", limit=limit) == body.removeprefix(codecs.BOM_UTF8)
    else:
        with pytest.raises(PayloadTooLarge):
            decompress(compressed, "gzip", limit=limit)


@given(st.lists(st.tuples(st.binary(max_size=80), st.integers(0, 3)), min_size=1, max_size=6), st.integers(0, 500))
def test_members_are_joined_under_one_limit(members: list[tuple[bytes, int]], limit: int) -> None:
    compressed = b"".join(gzip.compress(member) + bytes(padding) for member, padding in members)
    body = b"".join(member for member, _ in members)
    if len(body) <= limit:
        assert decompress(compressed, "gzip", limit=limit) == body.removeprefix(codecs.BOM_UTF8)
    else:
        with pytest.raises(PayloadTooLarge):
            decompress(compressed, "gzip", limit=limit)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 200_000])
def test_members_and_padding_of_any_size_are_read(size: int) -> None:
    noise = random.Random(size).randbytes(size)  # which stays as large when it is compressed
    compressed = gzip.compress(noise) + bytes(size) + gzip.compress(BODY) + bytes(size)
    assert decompress(compressed, "gzip", limit=size + len(BODY)) == noise + BODY
    with pytest.raises(PayloadTooLarge):
        decompress(compressed, "gzip", limit=size + len(BODY) - 1)


def test_the_work_for_empty_members_and_padding_is_linear() -> None:
    def read(members: int) -> None:
        body = gzip.compress(b"") * members + bytes((8 << 20) * members // MAX_GZIP_MEMBERS)
        assert decompress(body, "gzip", limit=10) == b""

    assert_linear(read, MAX_GZIP_MEMBERS)


@pytest.mark.parametrize("encode", [bytes, gzip.compress, zlib.compress], ids=["identity", "gzip", "deflate"])
def test_one_byte_order_mark_is_skipped(encode: Callable[[bytes], bytes]) -> None:
    encoding = {bytes: None, gzip.compress: "gzip", zlib.compress: "deflate"}[encode]
    mark = b"\xef\xbb\xbf"
    assert decompress(encode(mark + BODY), encoding, limit=10_000) == BODY
    assert decompress(encode(mark + mark + BODY), encoding, limit=10_000) == mark + BODY
    with pytest.raises(PayloadTooLarge):  # a body that is cut at the limit is not accepted as complete
        decompress(encode(mark + BODY), encoding, limit=len(BODY))


@given(st.binary(max_size=60), st.booleans(), st.sampled_from(["gzip", "deflate"]))
def test_raises_nothing_but_rejections(junk: bytes, with_magic: bool, encoding: str) -> None:
    try:
        decompress(gzip.compress(b"")[:10] + junk if with_magic else junk, encoding, limit=100)
    except HeadwaterError as error:
        assert error.status in (400, 413)
