"""The messages of errors: never empty, and one cause each."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import headwater.base.errors as errors
from headwater.base.errors import HeadwaterError

SOURCES = Path(errors.__file__).resolve().parents[1]
FIRST_IS_MESSAGE = {name for name, value in vars(errors).items() if isinstance(value, type)} | {
    *("InvalidValue", "FunctionFailed", "Failed", "MappingFailed", "InvalidFilter", "InvalidMapping", "EventsRejected"),
}
SECOND_IS_MESSAGE = {"Unprocessable", "RecordError"}
THIRD_IS_MESSAGE = {"Rejection"}
SEVERAL_CAUSES = re.compile(r", or (is|has|not|does not|cannot)\b")


def find_text(node: ast.expr) -> str | None:
    """Return the text of a message in the code, with … for its values; None when there is none."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=values):
            return "".join(find_text(value) or "…" for value in values)
        case _:
            return None


def messages() -> Iterator[tuple[str, str]]:
    """Yield the place and the text of each message in the source."""
    for path in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            name = node.func.id
            place = 2 if name in THIRD_IS_MESSAGE else 1 if name in SECOND_IS_MESSAGE else 0
            if name not in FIRST_IS_MESSAGE | SECOND_IS_MESSAGE | THIRD_IS_MESSAGE or len(node.args) <= place:
                continue
            if (text := find_text(node.args[place])) is not None:
                yield f"{path.relative_to(SOURCES)}:{node.lineno}", text


def test_the_messages_are_found() -> None:
    found = dict(messages())
    assert len(found) > 200
    assert {place.partition("/")[0] for place in found} >= {"api", "catalog", "events", "intake", "management"}


def test_no_message_is_empty() -> None:
    assert [place for place, text in messages() if not text.strip()] == []


def test_no_message_names_several_causes() -> None:
    assert [(place, text) for place, text in messages() if SEVERAL_CAUSES.search(text)] == []


@pytest.mark.parametrize("error", [value for value in vars(errors).values() if isinstance(value, type)])
def test_every_error_has_a_message(error: type[HeadwaterError]) -> None:
    if issubclass(error, HeadwaterError):
        with pytest.raises(TypeError):
            error()  # type: ignore[call-arg]
