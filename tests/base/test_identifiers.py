"""Identifiers and keys: their form, and that they are random."""

import re
from random import Random

import pytest

from headwater.base.identifiers import MAX_ID, Identifiers

FORMS = {
    "event_write_key": r"[A-Za-z0-9]{32}",
    "public_key": r"pk_[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}",
    "api_key": r"api_[A-Za-z0-9]{43}",
}


@pytest.mark.parametrize(("kind", "form"), FORMS.items())
def test_keys_have_their_form_and_differ(kind: str, form: str) -> None:
    keys = {getattr(Identifiers(), kind)() for _ in range(500)}
    assert len(keys) == 500
    assert all(re.fullmatch(form, key) for key in keys)


def test_identifiers_are_positive_32_bit_integers() -> None:
    drawn = [Identifiers().identifier() for _ in range(2000)]
    assert all(1 <= each <= MAX_ID == 2**31 - 1 for each in drawn)
    assert max(drawn) > 2**30, "they use the whole range"


def test_nonces_are_16_bytes() -> None:
    assert {len(Identifiers().nonce()) for _ in range(50)} == {16}


def test_a_seeded_source_repeats_itself() -> None:
    def made(seed: int) -> tuple[object, ...]:
        identifiers = Identifiers(Random(seed))
        return (
            identifiers.identifier(),
            identifiers.event_write_key(),
            identifiers.public_key(),
            identifiers.api_key(),
            identifiers.nonce(),
        )

    assert made(1) == made(1) != made(2)
