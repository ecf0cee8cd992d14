"""Tables fit the terminal, and contain nothing that controls it."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.cli.tables import MIN_COLUMN_CHARACTERS, format_table, measure, printable, style


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (None, "ID  NAME\n1   a long name of a thing"),
        (80, "ID  NAME\n1   a long name of a thing"),
        (16, "ID  NAME\n1   a long name…"),
        (3, "ID  NAME\n1   a lon…"),
    ],
)
def test_the_widest_cells_are_cut(width: int | None, expected: str) -> None:
    assert format_table(("ID", "NAME"), [("1", "a long name of a thing")], width) == expected


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@given(st.lists(st.tuples(texts, texts, texts), max_size=5), st.integers(30, 120))
def test_a_table_is_as_wide_as_the_terminal(rows: list[tuple[str, str, str]], width: int) -> None:
    heads = ("A", "B", "C")
    lines = format_table(heads, rows, width).split("\n")
    assert len(lines) == 1 + len(rows)
    assert all(measure(line) <= width for line in lines)
    assert all(line.isprintable() for line in lines)


def test_wide_characters_take_two_columns() -> None:
    lines = format_table(("名前", "B"), [("é", "x"), ("水水水水水", "y")], 3 * MIN_COLUMN_CHARACTERS).split("\n")
    assert [measure(line.rstrip("Bxy")) for line in lines] == [12, 12, 12]


def test_text_cannot_control_a_terminal() -> None:
    assert printable("a\x1b[31m\nb") == "a\N{REPLACEMENT CHARACTER}[31m\N{REPLACEMENT CHARACTER}b"


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "variables", "expected"),
    [
        (_Terminal(), {}, "\x1b[31mx\x1b[0m"),
        (_Terminal(), {"NO_COLOR": "1"}, "x"),
        (_Terminal(), {"NO_COLOR": ""}, "\x1b[31mx\x1b[0m"),
        (_Terminal(), {"TERM": "dumb"}, "x"),
        (io.StringIO(), {}, "x"),
    ],
)
def test_colours_are_for_terminals(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, variables: dict[str, str], expected: str
) -> None:
    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert style("x", "red", stream) == expected
