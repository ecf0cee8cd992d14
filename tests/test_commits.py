"""`scripts/commits.py` checks the subjects of new commits, in full and in shallow clones."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]


def _load() -> ModuleType:
    specification = importlib.util.spec_from_file_location("commits", ROOT / "scripts" / "commits.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


commits: Final = _load()


@pytest.mark.parametrize(
    "subject",
    [
        "log: read without a lease",
        "api, server: rename a metric",
        "tests/e2e: wait for the attempt",
        "docs(architecture): say which failing events are isolated",
        "catalog: apply the delta only if one was read",
        "x: " + "y" * 68,
    ],
)
def test_a_subject_may_follow_the_rules(subject: str) -> None:
    assert commits.problem(subject) is None


@pytest.mark.parametrize(
    ("subject", "rule"),
    [
        ("As it is", "is not of the form"),
        ("Docs: say more", "is not of the form"),
        ("docs:say more", "is not of the form"),
        ("docs: ", "is not of the form"),
        ("docs: say more.", "is not of the form"),
        ("", "is not of the form"),
        ("x: " + "y" * 70, "has 73 characters"),
        ("log: wip", "names no change"),
        ("WIP", "names no change"),
        ("fixup! log: read without a lease", "names no change"),
        ("Merge branch 'main' into log", "names no change"),
    ],
)
def test_a_subject_that_breaks_a_rule_is_reported(subject: str, rule: str) -> None:
    assert commits.problem(subject).startswith(rule)


def _git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false"]
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    _git(folder, "init", "--quiet")
    for number in range(4):
        date = f"{1_000_000 + number} +0000"
        _git(folder, "commit", "--quiet", "--allow-empty", "-m", f"commit {number}", "--date", date)
    return folder


@pytest.mark.process
def test_the_commits_after_the_base_are_checked(repository: Path) -> None:
    base = _git(repository, "rev-parse", "HEAD~2")
    assert list(commits.subjects(repository, base).values()) == ["commit 3", "commit 2"]
    assert list(commits.subjects(repository, _git(repository, "rev-parse", "HEAD")).values()) == []


@pytest.mark.process
def test_merges_are_not_checked(repository: Path) -> None:
    base = _git(repository, "rev-parse", "HEAD")
    _git(repository, "checkout", "--quiet", "-b", "side", "HEAD~1")
    _git(repository, "commit", "--quiet", "--allow-empty", "-m", "log: read")
    _git(repository, "merge", "--quiet", "-m", "take in the log", base)
    assert list(commits.subjects(repository, base).values()) == ["log: read"]


@pytest.mark.process
def test_a_shallow_clone_without_the_base_is_checked(repository: Path, tmp_path: Path) -> None:
    shallow = tmp_path / "shallow"
    _git(tmp_path, "clone", "--quiet", "--depth", "2", repository.as_uri(), str(shallow))
    base = _git(repository, "rev-parse", "HEAD~3")
    committed = int(_git(repository, "log", "-1", "--format=%ct"))
    assert list(commits.subjects(shallow, base, committed - 3600).values()) == ["commit 3", "commit 2"]
    assert list(commits.subjects(shallow, base, committed + 3600).values()) == []


@pytest.mark.process
def test_a_folder_without_a_repository_is_an_error(tmp_path: Path) -> None:
    assert commits.subjects(tmp_path) == {}
