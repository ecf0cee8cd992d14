"""Confines itself and executes another program: `python -I -S launch.py MODE DATA PROGRAM ARGUMENT…`.

MODE `require` does not execute the program if the system refuses a part of the confinement; `warn` does. DATA is the
number of bytes of memory that the program may write to, PROGRAM its path. With the argument `--check` the process
prints the refused parts, separated by spaces, and exits.

The program's standard error is discarded, because messages of a crashing interpreter may contain user data.

It runs before each session of a function, so it imports few modules: json or pathlib would double its time.
"""

import ctypes
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from headwater.transforms.functions.confinement import process
else:
    # The package `headwater` would import the dependencies of its parts, which takes longer than everything else.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    from confinement import process

CHECK = "--check"
REQUIRE = "require"
MAX_FILES = 64
_EXECVEAT = {"x86_64": 322, "aarch64": 281}
_AT_EMPTY_PATH = 0x1000


def main(mode: str, data: int, path: str, arguments: list[str]) -> None:
    """Run the program, or exit with a status other than 0."""
    program = os.open(path, os.O_RDONLY)
    if arguments != [CHECK]:
        _drop_descriptors(program)
    missing = process.confine(program=program)
    if arguments == [CHECK]:
        print(*missing)
        return
    if missing and mode == REQUIRE:
        sys.exit(1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (MAX_FILES, MAX_FILES))
    resource.setrlimit(resource.RLIMIT_DATA, (data, data))
    _execute(program, [path, *arguments])


def _drop_descriptors(program: int) -> None:
    """Close all descriptors except input, output and the program, and discard writes to standard error."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        if descriptor > 2 and descriptor != program:
            try:
                os.close(descriptor)
            except OSError:  # the descriptor of the listing itself
                continue


def _execute(program: int, command: list[str]) -> None:
    """Replace this process by the program, with an empty environment. Uses its descriptor, because the new user may not
    be able to read its path."""
    texts = [os.fsencode(text) for text in command]
    arguments = (ctypes.c_char_p * (len(texts) + 1))(*texts, None)
    environment = (ctypes.c_char_p * 1)(None)
    ctypes.CDLL(None).syscall(_EXECVEAT[os.uname().machine], program, b"", arguments, environment, _AT_EMPTY_PATH)
    os._exit(127)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:])
