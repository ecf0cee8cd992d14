"""`scripts/language.py` finds sentences and names that break the language rules, and only those."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]


def _load() -> ModuleType:
    specification = importlib.util.spec_from_file_location("language", ROOT / "scripts" / "language.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["language"] = module  # dataclasses look up their module
    specification.loader.exec_module(module)
    return module


language: Final = _load()


def rules(path: str, text: str) -> list[str]:
    return [finding.rule for finding in language.check(path, text)]


@pytest.mark.parametrize(
    ("sentence", "rule"),
    [
        ("A defect of ours is logged.", '"of ours"'),
        ("The limit is told to the client.", '"is told"'),
        ("It is what is said of a user.", '"is said"'),
        ("The file is made anew at every start.", '"anew"'),
        ("It ends when somebody reads.", '"somebody"'),
        ("The worker runs beside Envoy.", '"beside"'),
        ("The limit is 20 events at once.", '"20 events at once"'),
        ("Each room has one rule.", '"room"'),
        ("The walls are enforced.", '"walls"'),
        ("Events are checked at the door.", '"door"'),
        ("A ratio to a floor.", '"floor"'),
        ("The API has two faces.", '"two faces"'),
        ("The REST twin of the call.", '"twin"'),
        ("Every dialect has limits.", '"dialect"'),
        ("The worker reads frames.", '"frames"'),
        ("The call answers 503.", '"answers"'),
        ("The call is answered 503.", '"answered"'),
        ("A refusal is kept.", '"refusal"'),
        ("Refused events are kept.", '"Refused events"'),
        ("The ledger knows it.", '"ledger"'),
        ("The result is not unchanged.", '"not unchanged"'),
        ("The worker carries each batch once.", '"carries each batch"'),
        ("Sources that are no more are removed.", '"are no more"'),
        ("What is rejected is kept.", 'a sentence opens with "What"'),
        ("Events are kept. Who reads them decides.", 'a sentence opens with "Who"'),
        ("**Which calls.** All of them.", 'a sentence opens with "Which"'),
        ("Where the backend listens.", 'a sentence opens with "Where"'),
        (" ".join(["word"] * 33) + ".", "a sentence has 33 words: 32 at most"),
    ],
)
def test_a_sentence_of_a_page_that_breaks_a_rule_is_found(sentence: str, rule: str) -> None:
    [found] = rules("README.md", f"{sentence}\n")
    assert found.startswith(rule)


@pytest.mark.parametrize(
    "text",
    [
        "Any other exception is a bug. It is logged with its traceback.\n",
        "A new key works at once.\n",
        "What became of the message?\n",
        "Where the system has no Landlock, the log has a warning.\n",
        "The wall clock, a stack frame and the SQL dialect.\n",
        "The name `beside` and the link [page](https://example.com/room).\n",
        "The text is not Unicode, and not unique.\n",
        "```sh\nanswer the door of ours\n```\n",
        "| code | text |\n| --- | --- |\n| `frames` | a table |\n",
        "<!-- tested: beside -->\n",
    ],
)
def test_a_page_may_follow_the_rules(text: str) -> None:
    assert rules("docs/events.md", text) == []


def test_a_finding_names_the_line_of_its_words() -> None:
    text = "# Title\n\nThe first line\nends beside this.\n\n- An item.\n- The door.\n\n| a | the room |\n"
    assert [finding.line for finding in language.check("docs/x.md", text)] == [4, 7, 9]


def test_a_sentence_ends_at_its_full_stop_and_no_abbreviation() -> None:
    short = " ".join(["word"] * 20)
    assert rules("README.md", f"{short}. Then {short}.\n") == []
    assert rules("README.md", f"{short}, e.g. Then {short}.\n") == ["a sentence has 42 words: 32 at most"]


def test_only_the_first_paragraph_of_a_decision_is_checked() -> None:
    text = "# 1. The house\n\nAccepted.\n\nThe worker reads {}.\n\nThe rooms of the house.\n"
    assert rules("docs/decisions/0001-x.md", text.format("entries")) == []
    assert len(rules("docs/decisions/0001-x.md", text.format("frames"))) == 1


@pytest.mark.parametrize(
    ("code", "rule"),
    [
        ('"""What the worker does."""', 'a sentence opens with "What"'),
        ('"""How many events wait."""', "a description opens with a quantity clause"),
        ('"""So many misses are a flood."""', "a description opens with a quantity clause"),
        ('"""Of the body."""', "a docstring opens without its subject or verb"),
        ('SIZE = 1\n"""How much is kept."""', "a description opens with a quantity clause"),
        ("def f() -> None:\n    # this is done beside that\n    pass", '"beside"'),
        ('raise ValueError(f"the {name} is refused by a room")', '"room"'),
        ("LONGEST_NAME = 1", "constant LONGEST_NAME: MAX_"),
        ("_MOST = 1", "constant _MOST: MAX_"),
        ("class A:\n    FIRST_WAIT: int = 1", "constant FIRST_WAIT: MAX_"),
        ("TIMEOUT_S = 1", "constant TIMEOUT_S: _SECONDS"),
        ("WAIT_MS = 1", "constant WAIT_MS: _SECONDS"),
        ("def text_of(value: str) -> str: ...", "function text_of: name it by a verb"),
    ],
)
def test_code_that_breaks_a_rule_is_found(code: str, rule: str) -> None:
    [found] = rules("src/headwater/log/x.py", f"{code}\n")
    assert found.startswith(rule)


@pytest.mark.parametrize(
    "code",
    [
        '"""Process each batch exactly once.\n\nRaises Unavailable when the database is away.\n"""',
        '"""Whether the alias applies only to an unknown user."""',
        "MAX_WAIT_SECONDS = 1\nS = 2\nfirst_wait = 3\n",
        'x = "the answer of the house"  # type: ignore[beside]',
        "print('rooms')",
        'raise ValueError(f"{what} is not a number")',
        '"""Mark tests.\n\n| house | room |\n| --- | --- |\n"""',
    ],
)
def test_code_may_follow_the_rules(code: str) -> None:
    assert rules("src/headwater/log/x.py", f"{code}\n") == []


@pytest.mark.parametrize(("path", "count"), [("tests/log/test_x.py", 0), ("src/headwater/log/x.py", 1)])
def test_tests_may_name_the_ends_of_their_data(path: str, count: int) -> None:
    assert len(rules(path, "FIRST_DAY = 1\n")) == count


def test_comments_of_protos_are_checked() -> None:
    proto = 'syntax = "proto3";\n// Event is what was\n// said by somebody.\nmessage Event {\n  // Room for more.\n}\n'
    found = language.check("protos/headwater/v1/x.proto", proto)
    assert [(finding.line, finding.rule.partition(":")[0]) for finding in found] == [
        (2, '"was said"'),
        (3, '"somebody"'),
        (5, '"Room"'),
    ]


@pytest.mark.parametrize(
    ("path", "count"), [("src/headwater/transforms/functions/javascript/x.py", 0), ("src/x.py", 1)]
)
def test_frames_of_a_pipe_are_not_log_entries(path: str, count: int) -> None:
    assert len(rules(path, '"""Read one frame."""\n')) == count
