"""What stops a start. It is for the person at the terminal, so it is no part of the tree of answers."""


class StartupError(Exception):
    """The system cannot start. The message is one line that says what is wrong and what to do."""
