"""Progress on a terminal and in a file."""

import io

import pytest

from headwater.cli.progress import ProgressView, draw_bar


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_one_bar_and_a_file_gets_few_lines() -> None:
    terminal, file = Terminal(), io.StringIO()
    for view in (ProgressView(terminal), ProgressView(file)):
        for number in range(3):
            view.show("x" * (3 - number), is_last=False)
        view.close()
    assert terminal.getvalue() == "\rxxx\rxx \rx \n"
    assert file.getvalue() == "xxx\n"


def test_the_last_line_is_always_in_the_file() -> None:
    file = io.StringIO()
    view = ProgressView(file)
    for number in range(3):
        view.show(str(number), is_last=number == 2)
    assert file.getvalue() == "0\n2\n"


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0, "[..............................]   0 %"),
        (0.5, "[###############...............]  50 %"),
        (0.999, "[#############################.]  99 %"),
        (1, "[##############################] 100 %"),
    ],
)
def test_a_bar_is_full_at_the_end_only(share: float, expected: str) -> None:
    assert draw_bar(share) == expected
