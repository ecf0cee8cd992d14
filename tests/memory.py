"""A folder in memory for the files of tests, which mostly wait for a disk to keep files that are soon deleted.

A file there survives a killed process, as on a disk. It does not survive the machine.
"""

import os
import shutil
from pathlib import Path

_SHARED = Path("/dev/shm")


def roomy_memory(room: int, *, programs: bool = False) -> Path | None:
    """A folder in memory with more than `room` bytes free; where `programs` in it can be run, if they are to be.

    None where there is none, as in many a container: files go where files go, and the tests take longer.
    """
    if not _SHARED.is_dir() or shutil.disk_usage(_SHARED).free <= room:
        return None
    if programs and os.statvfs(_SHARED).f_flag & os.ST_NOEXEC:
        return None
    return _SHARED
