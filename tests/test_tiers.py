"""Tests have the markers of their folders."""

from pathlib import PurePath

import pytest

from tests.tiers import folder_markers


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
