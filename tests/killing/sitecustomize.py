"""Kill the worker at points of an erasure that a file names, each once.

Python imports a module of this name when it starts. A test puts this folder on PYTHONPATH, and sets PYTHONKILLS to a
file with a point in each line. The worker removes the line before it kills itself, so its successor continues.
"""

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

KILLS = os.environ.get("PYTHONKILLS", "")


def die_at(point: str) -> None:
    file = Path(KILLS)
    points = file.read_text().splitlines()
    if point in points:
        points.remove(point)
        file.write_text("\n".join(points))
        os.kill(os.getpid(), signal.SIGKILL)


def around(name: str, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    @wraps(real)
    async def call(*arguments: Any, **named: Any) -> Any:
        die_at(f"{name} begins")
        result = await real(*arguments, **named)
        die_at(f"{name} ends")
        return result

    return call


if KILLS and "headwater.server.worker" in sys.orig_argv:
    from headwater.processing.erasing.erasure import Erasure
    from headwater.processing.erasing.note import Note, NoteStore
    from headwater.processing.erasing.stages import Stages

    step, write = Stages.step, NoteStore.write

    async def step_or_die(self: Stages, note: Note, subject: Any) -> bool:
        return bool(await around(note.stage, step)(self, note, subject))

    def write_or_die(self: NoteStore, transaction: Any, note: Note) -> None:
        """The transaction that deletes is open, and lost."""
        write(self, transaction, note)
        die_at(f"{note.stage} writes")

    Stages.step = step_or_die  # type: ignore[method-assign]
    NoteStore.write = write_or_die  # type: ignore[method-assign]
    Erasure._overwrite = around("overwriting", Erasure._overwrite)  # type: ignore[method-assign, assignment]
    Erasure._let_in = around("letting in", Erasure._let_in)  # type: ignore[method-assign, assignment]
    Erasure._complete = around("completing", Erasure._complete)  # type: ignore[method-assign, assignment]
