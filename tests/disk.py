"""Full disks, for components that must continue when there is space again."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a real small filesystem at the new folder `folder`. Skips the test if it cannot be mounted."""
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a filesystem of its own needs root: " + mounted.stderr.decode().strip())
    try:
        yield folder
    finally:
        # Lazily: a process that another thread forks meanwhile holds the open files until it executes its program.
        subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def no_file_larger_than(size: int) -> Iterator[None]:
    """Emulate a full disk: the kernel rejects writes beyond `size` in any file (Python ignores SIGXFSZ)."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
