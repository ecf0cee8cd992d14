"""Encryption: a sealed value opens only complete, only with its key, and only in its own context."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.base.encryption import Keyring, SealError, UnknownKey, parse_key_id

OLD = "the key of last year, 32 characters"
NEW = "the key of this year, 32 characters"
PLAIN = b'{"apiKey":"secret"}'


@given(plain=st.binary(max_size=1_000), context=st.binary(max_size=50))
def test_what_was_sealed_is_opened(plain: bytes, context: bytes) -> None:
    keyring = Keyring(NEW)
    record = keyring.seal(plain, context=context)
    assert keyring.open(record, context=context) == plain
    assert len(plain) < 4 or plain not in record


def test_no_two_records_are_alike() -> None:
    keyring = Keyring(NEW)
    assert keyring.seal(PLAIN, context=b"") != keyring.seal(PLAIN, context=b"")


@given(position=st.integers(0, 48), flip=st.integers(1, 255))
def test_a_record_that_was_changed_is_not_opened(position: int, flip: int) -> None:
    keyring = Keyring(NEW)
    record = bytearray(keyring.seal(PLAIN, context=b"a"))
    record[position % len(record)] ^= flip
    with pytest.raises(SealError):
        keyring.open(bytes(record), context=b"a")


def test_a_record_that_was_cut_is_not_opened() -> None:
    keyring = Keyring(NEW)
    record = keyring.seal(PLAIN, context=b"a")
    for size in range(len(record)):
        with pytest.raises(SealError):
            keyring.open(record[:size], context=b"a")


def test_a_record_belongs_to_its_context() -> None:
    keyring = Keyring(NEW)
    with pytest.raises(SealError, match="belongs to something else"):
        keyring.open(keyring.seal(PLAIN, context=b"connection 1"), context=b"connection 2")


def test_older_keys_open_and_the_present_one_seals() -> None:
    record = Keyring(OLD).seal(PLAIN, context=b"")
    both = Keyring(NEW, [OLD])
    assert both.open(record, context=b"") == PLAIN
    assert both.knows(record) and not both.is_present(record)
    resealed = both.seal(PLAIN, context=b"")
    assert both.is_present(resealed)
    assert Keyring(NEW).open(resealed, context=b"") == PLAIN


def test_a_key_that_is_not_given_is_named_and_not_told() -> None:
    record = Keyring(OLD).seal(PLAIN, context=b"")
    assert not Keyring(NEW).knows(record)
    with pytest.raises(UnknownKey) as caught:
        Keyring(NEW).open(record, context=b"")
    assert parse_key_id(record).hex() in str(caught.value)
    assert OLD not in str(caught.value)


def test_the_present_key_may_be_listed_among_the_older_ones() -> None:
    keyring = Keyring(NEW, [OLD, NEW])
    assert keyring.is_present(keyring.seal(PLAIN, context=b""))


@pytest.mark.parametrize(("present", "older"), [("x" * 31, ()), (NEW, ("x" * 31,)), ("", ())])
def test_a_short_secret_is_no_key(present: str, older: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="32 characters"):
        Keyring(present, older)


@pytest.mark.parametrize("secret", ["\N{GRINNING FACE}" * 32, "\udcff" * 32, " " * 32])
def test_any_text_may_be_a_secret(secret: str) -> None:
    assert Keyring(secret).open(Keyring(secret).seal(PLAIN, context=b""), context=b"") == PLAIN


def test_nothing_shows_a_key() -> None:
    assert NEW not in repr(Keyring(NEW, [OLD])) + str(vars(Keyring(NEW)))
