"""Reports that the start-up of a process makes progress, although it takes long. The supervisor then waits longer."""

from collections.abc import Callable

_reporters: list[Callable[[], None]] = []


def add_reporter(report: Callable[[], None]) -> None:
    """Call `report` with each sign of progress of this process."""
    _reporters.append(report)


def report_progress() -> None:
    """Report a sign of progress. Does nothing in a process that no supervisor watches."""
    for report in _reporters:
        report()
