"""Checks the subjects of commits: `area: what it does`, at most 72 characters. Merges are not checked.

    commits.py        check the commits after BASE
    commits.py FROM   check the commits after FROM

Where the history does not reach back to the base (a shallow clone), the commits that are there and younger than the
base are checked. Without git or a repository there is nothing to check.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

BASE: Final = "897b590eee0ae4e3401835cfed3a3db5c0acaa3b"
"""The last commit that is not checked."""
BASE_SECONDS: Final = 1795979224
"""The time of BASE in seconds since 1970."""

MAX_LENGTH: Final = 72
FORM: Final = re.compile(r"[a-z0-9][a-z0-9_./, ()-]*: \S.*[^.\s]")
UNFINISHED: Final = re.compile(r"(?:^|: )(?:wip|tmp|fixup!?|squash!?|merge branch)\b", re.IGNORECASE)


def problem(subject: str) -> str | None:
    """Return the rule that a subject breaks, or None."""
    if len(subject) > MAX_LENGTH:
        return f"has {len(subject)} characters: {MAX_LENGTH} at most"
    if UNFINISHED.search(subject):
        return "names no change: say what the commit does"
    if not FORM.fullmatch(subject):
        return "is not of the form `area: what it does`, with a lower-case area and no full stop"
    return None


def subjects(folder: Path, base: str = BASE, base_seconds: int = BASE_SECONDS) -> dict[str, str]:
    """Return the subjects of commits after `base` in the repository at `folder`, by short hash. Merges are left out."""
    is_there = _git(folder, "cat-file", "-e", f"{base}^{{commit}}") is not None
    chosen = [f"{base}..HEAD"] if is_there else [f"--since={base_seconds + 1}", "HEAD"]
    output = _git(folder, "log", "--no-merges", "--format=%h %s", *chosen) or ""
    return dict(line.partition(" ")[::2] for line in output.splitlines())


def _git(folder: Path, *arguments: str) -> str | None:
    """Return what git prints, or None if it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=60)
    except OSError:
        return None
    return done.stdout if done.returncode == 0 else None


def main(arguments: list[str]) -> int:
    folder = Path(__file__).resolve().parent.parent
    base = arguments[0] if arguments else BASE
    found = [
        (name, subject, rule)
        for name, subject in subjects(folder, base).items()
        if (rule := problem(subject)) is not None
    ]
    for name, subject, rule in found:
        print(f"{name} {subject!r} {rule}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
