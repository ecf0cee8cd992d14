"""Checks texts and names against the language rules of CONTRIBUTING.md.

Texts are documentation, comments of protos, docstrings, comments and error texts.

    language.py            check every file
    language.py PATH...    check these files and folders

Each finding is one line, `file:line: rule`. The status is 1 if there are any. Only the standard library is used.
"""

import argparse
import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = ("*.md", "docs/*.md", "docs/decisions/*.md")
SOURCES: Final = ("protos/headwater/**/*.proto", "src/**/*.py", "tests/**/*.py", "scripts/**/*.py", "bench/**/*.py")
SKIPPED: Final = ("tests/test_language.py",)
"""Files that quote sentences which break the rules."""

MAX_WORDS: Final = {"page": 32, "decision": 32, "doc": 45, "comment": 45, "error": 45}
"""Words in one sentence by the kind of text. Authors aim at 25."""


@dataclass(frozen=True)
class Finding:
    path: str
    line: int
    rule: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.rule}"


@dataclass(frozen=True)
class Text:
    """A paragraph, list item, table cell, comment or string. `line` is the number of its first line."""

    line: int
    words: str
    kind: str


PHRASES: Final = [
    (re.compile(pattern.replace(" ", r"\s"), re.IGNORECASE), advice)
    for pattern, advice in (
        (r"\bof (?:ours|theirs|its own accord)\b", "name the owner: Headwater, the server, the caller"),
        (r"\b(?:is|are|was|were|be|been|being) (?:said|told)\b", "use active voice: returns, contains, states"),
        (r"\b(?:as|when|unless|until) (?:it is |they are )?told\b", "name the setting or the call"),
        (r"\banew\b", "again"),
        (r"\bsomebody\b|\bsomeone\b", "name the role: the client, the operator"),
        (r"\bbeside\b", "next to, besides, in addition to, or together with"),
        (r"\b(?:how many|many|several|all|two|three|\d[\d,]*(?: events| calls)?) at once\b", "together, or a burst"),
        (r"\b(?:house|rooms?|doors?|twins?)\b", "package, API or counterpart instead of a metaphor"),
        (r"\bwalls?\b(?![ -](?:clock|time))", "dependency rule"),
        (r"\bfloors?\b", "baseline, or minimum"),
        (r"\b(?:two|both|other|same|typed|rest|json|two|its|public|documented) faces?\b", "API, REST or gRPC"),
        (r"(?<!sql )\bdialects?\b", "protocol"),
        (r"(?<!stack )(?<!http/2 )(?<!wal )\bframes?\b", "log entry"),
        (r"\banswer(?:s|ed|ing)?\b", "returns, responds; the noun is response"),
        (
            r"\brefusals?\b|\brefused (?:events?|calls?)\b|\bevents? (?:is|are|was|were) refused\b",
            "rejection, rejected",
        ),
        (r"\bledgers?\b", "deduplication store"),
        (r"\bdice\b", "random seed"),
        (r"\b(?:is|are|was|were) no more\b", "was deleted"),
        (r"\bwhat there is of\b", "list what is meant"),
        (r"\bpeople's own\b", "of users"),
        (r"\b(?:who|which|what)ever (?:wanted|asked|asks|needs) (?:it|them|the)\b", "name the caller"),
        (
            r"\bnot un(?!i[cqvtf])\w+\b|\bcannot not\b|\bno \w+ that (?:is|are|does|do|has|have) not\b",
            "no double negation",
        ),
        (r"\bcarr(?:y|ies|ied|ying) (?:\w+ ){0,3}(?:batch(?:es)?|events?|entries)\b", "processes"),
    )
]
EXEMPT: Final = {
    r"rejection, rejected": re.compile(r"protos/headwater/v1/(?:identity_resolution|profiles)\.proto"),
    r"log entry": re.compile(r"transforms/functions/(?:javascript|python|sandbox)|tests/transforms/functions/"),
}
"""Paths where the word has another meaning, by the advice of the phrase."""

SUBJECT: Final = re.compile(r"^(?:\W*)(?P<word>What|Whatever|Who|Whoever|Whose|Which|Whichever)\b")
PLACE: Final = re.compile(r"^(?:\W*)Where\b[^,]*$", re.DOTALL)
QUANTITY: Final = re.compile(r"^(?:\W*)(?:How (?:many|much|long|often|far|big|large)|So (?:many|much|long|few))\b")
OPENING: Final = re.compile(
    r"^(?:\W*)(?:Of|So|As|It|Its|They|Their|These|This|That|Beside|Whether or not|As)\b(?! an? )"
)

CONSTANT_START: Final = re.compile(r"^_?(?P<word>LONGEST|MOST|LARGEST|SMALLEST|LEAST|FIRST|LAST)(?:_|$)")
SEQUENCE: Final = ("FIRST", "LAST")
"""Words that tests may use for the ends of their data."""
CONSTANT_END: Final = re.compile(r"^_?[A-Z][A-Z0-9_]*_(?P<unit>S|MS)$")
SENTENCE: Final = re.compile(r"(?<=[.!?])[\"')*\]]*\s+(?=[\"'(*\[]*[A-Z`0-9])")
ABBREVIATION: Final = re.compile(r"\b(?:e\.g|i\.e|cf|vs|St|No|approx)\.$")


def check(path: str, text: str) -> list[Finding]:
    """Return the findings in one file, whose kind its suffix decides. `path` is relative to the repository."""
    found: list[Finding] = []
    if path.endswith(".md"):
        texts: Iterable[Text] = _decision(text) if "decisions/" in path else _page(text)
    elif path.endswith(".proto"):
        texts = _comments(text, "//", "doc")
    else:
        tree = ast.parse(text)
        found += (Finding(path, line, rule) for line, rule in _names(tree, is_test=path.startswith("tests/")))
        texts = [*_docstrings(tree), *_errors(tree), *_python_comments(text)]
    for part in texts:
        found += (Finding(path, line, rule) for line, rule in _prose(part, path))
    return sorted(set(found), key=lambda finding: (finding.line, finding.rule))


def _prose(part: Text, path: str) -> Iterator[tuple[int, str]]:
    words = _without_code(part.words)
    for pattern, advice in PHRASES:
        if advice in EXEMPT and EXEMPT[advice].search(path):
            continue
        for match in pattern.finditer(words):
            phrase = " ".join(match[0].split())
            yield part.line + words[: match.start()].count("\n"), f'"{phrase}": write {advice}'
    for offset, sentence in _sentences(words):
        line = part.line + words[:offset].count("\n")
        if not sentence.endswith("?"):
            if subject := SUBJECT.match(sentence):
                yield line, f'a sentence opens with "{subject["word"]}": put the subject first'
            elif PLACE.match(sentence) and part.kind != "error":
                yield line, 'a sentence opens with "Where": put the subject first'
            elif part.kind == "doc" and offset == 0 and QUANTITY.match(sentence):
                yield line, "a description opens with a quantity clause: write Number of, Maximum size of, Duration of"
            elif part.kind == "doc" and offset == 0 and OPENING.match(sentence):
                yield line, "a docstring opens without its subject or verb"
        if (count := len(sentence.split())) > MAX_WORDS[part.kind]:
            yield line, f"a sentence has {count} words: {MAX_WORDS[part.kind]} at most"


def _sentences(words: str) -> Iterator[tuple[int, str]]:
    start = 0
    for match in SENTENCE.finditer(words):
        if ABBREVIATION.search(words[: match.start()]):
            continue
        yield start, words[start : match.start()].strip()
        start = match.end()
    if words[start:].strip():
        yield start, words[start:].strip()


def _without_code(words: str) -> str:
    """Replace code, quotations, addresses and link targets, and keep the lines."""
    words = re.sub(r"`[^`]*`", lambda match: "`code`" + "\n" * match[0].count("\n"), words)
    words = re.sub(r"\]\([^)\s]*\)", "]", words)
    words = re.sub(r"\bhttps?://\S+", "URL", words)
    return re.sub(r"[«“][^»”]*[»”]", "«x»", words)


def _page(text: str) -> Iterator[Text]:
    """Yield headings, paragraphs, list items and table cells of a Markdown page, without its code blocks."""
    lines: list[str] = []
    began = 0

    def flush() -> Iterator[Text]:
        if lines:
            yield Text(began, "\n".join(lines), "page")
            lines.clear()

    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("```"):
            yield from flush()
            fenced = not fenced
        elif fenced:
            continue
        elif not stripped or stripped.startswith("<!--"):
            yield from flush()
        elif stripped.startswith("|"):
            yield from flush()
            for cell in re.split(r"(?<!\\)\|", stripped.strip("|")):
                if not re.fullmatch(r"[\s:-]*", cell):
                    yield Text(number, cell.strip(), "page")
        elif stripped.startswith("#"):
            yield from flush()
            yield Text(number, stripped.lstrip("# "), "page")
        else:
            if item := re.match(r"(?:[-*]|\d+\.)\s+", stripped):
                yield from flush()
                stripped = stripped[item.end() :]
            if not lines:
                began = number
            lines.append(stripped)
    yield from flush()


def _decision(text: str) -> Iterator[Text]:
    """Yield the title and the first paragraph of a decision record. The rest is history."""
    parts = [part for part in _page(text) if not re.fullmatch(r"(?:Accepted|Replaced|Superseded)\b[^.]*\.", part.words)]
    for part in parts[1:2]:
        yield Text(part.line, part.words, "decision")


def _comments(text: str, mark: str, kind: str) -> Iterator[Text]:
    """Yield each block of comments that stand on lines of their own, and each paragraph of it."""
    block: list[str] = []
    for number, line in enumerate([*text.splitlines(), ""], 1):
        stripped = line.strip()
        comment = stripped[len(mark) :].strip() if stripped.startswith(mark) else ""
        if comment and not comment.startswith(("buf:lint", "Copyright")):
            block.append(comment)
        elif block:
            yield Text(number - len(block), "\n".join(block), kind)
            block.clear()


def _python_comments(text: str) -> Iterator[Text]:
    block: list[str] = []
    last = (-1, -1)
    began = 0
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type != tokenize.COMMENT:
            continue
        words = token.string.lstrip("#: ").strip()
        if re.match(r"(?:type:|noqa|fmt:|!|ruff:|mypy:)", words):
            continue
        continues = token.start == (last[0] + 1, last[1]) and token.line.lstrip().startswith("#")
        if block and not continues:
            yield Text(began, "\n".join(block), "comment")
            block.clear()
        if not block:
            began = token.start[0]
        block.append(words)
        last = token.start
    if block:
        yield Text(began, "\n".join(block), "comment")


def _docstrings(tree: ast.Module) -> Iterator[Text]:
    """Yield the paragraphs of docstrings, those of attributes and constants included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield from _paragraphs(node.lineno, node.value.value, node.col_offset + 4)


def _paragraphs(line: int, words: str, code: int) -> Iterator[Text]:
    """Yield the paragraphs of a docstring. Later paragraphs that are indented by `code` columns or more are code."""
    offset = 0
    is_first = True
    for paragraph in re.split(r"(\n\s*\n|\n(?=\s*[-*] ))", words):
        if paragraph.strip() and not re.match(r"\n?    ? ?( {4,}|[├└│])|\s*\|", paragraph):
            body = paragraph.strip("\n")
            indented = not is_first and re.match(rf" {{{code},}}\S", body)
            if not indented:
                blank = len(paragraph) - len(paragraph.lstrip("\n"))
                start = line + words[:offset].count("\n") + blank
                yield Text(start, re.sub(r"(?m)^\s*(?:[-*] )?", "", body), "doc" if is_first else "comment")
            is_first = False
        offset += len(paragraph)


def _errors(tree: ast.Module) -> Iterator[Text]:
    """Yield the texts of raised exceptions. A formatted value counts as one word."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            for argument in node.exc.args:
                if (words := _literal(argument)) and " " in words:
                    yield Text(argument.lineno, words, "error")


def _literal(node: ast.expr) -> str:
    match node:
        case ast.Constant(value=str() as words):
            return words.replace("\n", " ")
        case ast.JoinedStr(values=values):
            return "".join(_literal(value) for value in values)
        case ast.FormattedValue():
            return "`x`"
    return ""


def _names(tree: ast.Module, *, is_test: bool) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.endswith("_of"):
            yield node.lineno, f"function {node.name}: name it by a verb"
        if isinstance(node, ast.Assign | ast.AnnAssign):
            for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
                for name in ast.walk(target):
                    if isinstance(name, ast.Name) and name.id.isupper():
                        yield from _constant(name, is_test=is_test)


def _constant(name: ast.Name, *, is_test: bool) -> Iterator[tuple[int, str]]:
    if (match := CONSTANT_START.match(name.id)) and not (is_test and match["word"] in SEQUENCE):
        yield name.lineno, f"constant {name.id}: MAX_, MIN_, DEFAULT_ or INITIAL_ instead of {match['word']}"
    if match := CONSTANT_END.match(name.id):
        yield name.lineno, f"constant {name.id}: _SECONDS instead of _{match['unit']}"


def files(paths: Iterable[str]) -> list[Path]:
    """Return the checked files among these paths: files, or folders with everything in them."""
    chosen = [ROOT / path for path in paths]
    everything = (found for pattern in (*PAGES, *SOURCES) for found in ROOT.glob(pattern))
    return sorted(
        found
        for found in set(everything)
        if found.relative_to(ROOT).as_posix() not in SKIPPED
        and (not chosen or any(found == path or path in found.parents for path in chosen))
    )


def findings(paths: Iterable[Path]) -> list[Finding]:
    """Return the findings in all of these files."""
    return [found for path in paths for found in check(path.relative_to(ROOT).as_posix(), path.read_text())]


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the language rules of CONTRIBUTING.md.")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files and folders below the repository")
    found = findings(files(parser.parse_args().paths))
    for finding in found:
        print(finding)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
