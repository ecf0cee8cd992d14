"""The error of a failed start. It is for the operator's terminal, so it is not part of `headwater.base.errors`."""


class StartupError(Exception):
    """The system cannot start. The message is one line with the reason and the remedy."""
