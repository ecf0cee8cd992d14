"""Tests have the markers of their folders, and an order."""

from pathlib import Path, PurePath

import pytest

from tests.tiers import SLOW_TESTS, find_rank, folder_markers


@pytest.mark.parametrize(
    ("path", "markers"),
    [
        ("clients/test_clients.py", ["clients"]),
        ("log/test_sqlite.py", []),
        ("e2e/test_readme.py", ["e2e", "process"]),
        ("e2e/crash/test_crash.py", ["e2e", "process", "crash"]),
        ("sdks/test_python.py", ["sdks", "process"]),
        ("transforms/functions/test_runner.py", ["process"]),
        ("transforms/mapping/test_mapping.py", []),
    ],
)
def test_the_markers_of_a_folder(path: str, markers: list[str]) -> None:
    assert folder_markers(PurePath(path)) == markers


def test_the_longest_tests_are_first_and_those_with_a_shared_system_last() -> None:
    files = [
        ("api/test_tracks.py", False),
        ("e2e/test_readme.py", True),
        ("e2e/test_erasures.py", True),
        ("e2e/test_files.py", False),
        ("cli/test_tail.py", True),
        ("e2e/crash/test_disk.py", False),
    ]
    ordered = sorted(files, key=lambda file: find_rank(PurePath(file[0]), file[1]))
    assert [path for path, _ in ordered] == [
        "e2e/crash/test_disk.py",
        "e2e/test_files.py",
        "api/test_tracks.py",
        "e2e/test_erasures.py",
        "e2e/test_readme.py",
        "cli/test_tail.py",
    ]


@pytest.mark.parametrize("path", SLOW_TESTS)
def test_the_longest_tests_exist(path: str) -> None:
    assert (Path(__file__).parent / path).exists()
