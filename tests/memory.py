"""Where files cost no disk: most of what tests wait for is a disk that has got to keep what a minute later is gone.

A file there outlives a process that is killed, as one on a disk does. Only the machine it would not outlive.
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
