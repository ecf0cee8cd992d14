"""Placeholders of identities."""

import pytest

from headwater.connectors.identities import is_placeholder


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "null",
        "Undefined",
        "TRUE",
        "'null'",
        '"0"',
        "' '",
        " 0 ",
        "[object Object]",
        "00000000-0000-0000-0000-000000000000",
    ],
)
def test_placeholders_stand_for_nobody(text: str) -> None:
    assert is_placeholder(text)


@pytest.mark.parametrize("text", ["ada", "00", "1", "null-island", "ada@example.com", "x" * 300])
def test_other_texts_are_identities(text: str) -> None:
    assert not is_placeholder(text)
