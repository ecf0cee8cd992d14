"""The findings of checks, and what checks know."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from headwater.server.settings import Settings

Result = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of a check. `remedy` says what to do; it is empty if the result is ok."""

    check: str
    result: Result
    message: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Installation:
    """The installation that is checked."""

    environ: Mapping[str, str]
    settings: Settings
    url: str | None
    """The address that the user gave; None: the port of this machine."""

    @property
    def is_running(self) -> bool:
        """Whether a supervisor on this machine holds the data directory."""
        return self.supervisor is not None

    @property
    def supervisor(self) -> int | None:
        """The process that holds the data directory; None if none does."""
        from headwater.server.preflight import find_owner

        return find_owner(self.settings)


class Check(Protocol):
    """A check of an installation."""

    def __call__(self, installation: Installation) -> Iterable[Finding]: ...


def ok(check: str, message: str) -> Finding:
    """Return a finding without a fault."""
    return Finding(check, "ok", message)


def warning(check: str, message: str, remedy: str) -> Finding:
    """Return a finding that needs no action now."""
    return Finding(check, "warning", message, remedy)


def problem(check: str, message: str, remedy: str) -> Finding:
    """Return a finding that stops the system, or makes it lose data."""
    return Finding(check, "problem", message, remedy)
