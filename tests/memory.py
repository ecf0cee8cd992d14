"""A folder in memory for the files of tests, which would otherwise wait for a disk to write files that are soon
deleted.

A file there survives a killed process, as on a disk. It does not survive a restart of the machine.
"""

import os
import shutil
from pathlib import Path

_SHARED = Path("/dev/shm")


def roomy_memory(room: int, *, programs: bool = False) -> Path | None:
    """Return a folder in memory with more than `room` bytes free, in which programs can run if `programs` is set.

    Return None if there is none, as in many containers: tests then use the disk and take longer.
    """
    if not _SHARED.is_dir() or shutil.disk_usage(_SHARED).free <= room:
        return None
    if programs and os.statvfs(_SHARED).f_flag & os.ST_NOEXEC:
        return None
    return _SHARED
