"""Errors of commands. The main function prints each as one line, and exits with its status."""

from typing import Final

from headwater.server.errors import StartupError

FAILED: Final = 1
"""Exit status of a command that failed, or that found a problem."""
USAGE: Final = 2
"""Exit status of wrong usage."""
NO_SERVER: Final = 3
"""Exit status of a command that got no response from a server."""
NOT_FOUND: Final = 404
"""HTTP status of a path that leads nowhere."""
BROKEN_PIPE: Final = 141
"""Exit status of a command whose output is closed, as a shell reports SIGPIPE."""
INTERRUPTED: Final = 130
"""Exit status after Ctrl-C."""


class CommandError(StartupError):
    """A command failed. The message is one line."""


class UsageError(CommandError):
    """The arguments do not fit together."""


class NoServer(CommandError):
    """No server responded. The message names the address and the remedy."""


class ApiError(CommandError):
    """The server returned an error.

    `code` is the code for programs. `field` is the path of the invalid value, if the server names one. The text repeats
    it unless the message names it, or the value is a part of the path.
    """

    def __init__(self, status: int, code: str, message: str, field: str = "") -> None:
        is_named = field in message or status == NOT_FOUND
        super().__init__(f"{code}: {message}" + ("" if is_named else f" (field {field})"))
        self.status = status
        self.code = code
        self.field = field
