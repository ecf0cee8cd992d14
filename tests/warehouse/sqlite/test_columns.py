"""Columns and chunks are unchanged after packing and unpacking."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.warehouse.drivers.sqlite.columns import (
    may_have,
    pack_documents,
    pack_integers,
    pack_people,
    pack_values,
    split_into_chunks,
    unpack_documents,
    unpack_integers,
    unpack_values,
)

INTEGERS = st.one_of(
    st.integers(-(2**62), 2**62 - 1),
    st.integers(0, 10),
    st.sampled_from((0, 0xFFFF, 0x10000, 0xFFFF_FFFF, 0x1_0000_0000)),
)
TEXTS = st.one_of(st.none(), st.text(max_size=3))


@given(st.lists(INTEGERS, min_size=1))
def test_integers_are_unpacked_unchanged(values: list[int]) -> None:
    column = unpack_integers(pack_integers(values))
    assert list(column) == values
    assert [column[index] for index in range(len(column))] == values
    assert sorted(range(len(values)), key=column.offsets.__getitem__) == sorted(
        range(len(values)), key=values.__getitem__
    )


@given(st.integers(-(2**62), 2**62), st.integers(1, 5_000))
def test_consecutive_integers_take_no_space(first: int, number: int) -> None:
    values = list(range(first, first + number))
    packed = pack_integers(values)
    assert list(unpack_integers(packed)) == values
    assert len(packed) < 40


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 2**80])
def test_integers_beyond_64_bits_are_rejected(value: int) -> None:
    with pytest.raises(OverflowError):
        pack_integers([value])


@given(st.lists(TEXTS, min_size=1), TEXTS, TEXTS)
def test_values_are_unpacked_unchanged(values: list[str | None], one: str | None, other: str | None) -> None:
    column = unpack_values(pack_values(values))
    assert [column[index] for index in range(len(values))] == values
    assert list(column.where(one)) == [index for index, value in enumerate(values) if value == one]
    wanted = column.among((one, other))
    assert [column.indexes[index] in wanted for index in range(len(values))] == [
        value in (one, other) for value in values
    ]


@given(st.lists(st.binary(max_size=50)), st.integers(1, 5), st.integers(1, 60))
def test_documents_are_unpacked_unchanged(documents: list[bytes], maximum: int, size: int) -> None:
    assert unpack_documents(pack_documents(documents)) == documents
    chunks = list(split_into_chunks(documents, maximum=maximum, size=size))
    assert [document for _, some in chunks for document in some] == documents
    assert [first for first, _ in chunks] == [sum(len(some) for _, some in chunks[:n]) for n in range(len(chunks))]
    for _, some in chunks:
        assert len(some) <= maximum
        assert sum(map(len, some[:-1])) < size


@given(st.lists(TEXTS), st.lists(TEXTS))
def test_every_id_of_the_block_is_found(user_ids: list[str | None], anonymous_ids: list[str | None]) -> None:
    people = pack_people(user_ids, anonymous_ids)
    assert all(may_have(people, user_id=each) for each in user_ids if each is not None)
    assert all(may_have(people, anonymous_id=each) for each in anonymous_ids if each is not None)


def test_other_ids_are_rarely_found() -> None:
    people = pack_people([f"user-{number}" for number in range(4_000)], [f"a-{number}" for number in range(4_000)])
    strangers = [may_have(people, user_id=f"stranger-{number}") for number in range(2_000)]
    assert sum(strangers) < 3
    assert sum(may_have(people, anonymous_id=f"user-{number}") for number in range(2_000)) < 3
    assert not may_have(people, user_id="user-7", anonymous_id="stranger")
