"""Runs commands in the process of a test, as a user of a running system does."""

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from headwater.cli.main import main
from tests.system import RunningSystem


@dataclass(frozen=True)
class Result:
    """The effect of a command."""

    status: int
    output: str
    errors: str

    @property
    def lines(self) -> list[str]:
        return self.output.splitlines()

    @property
    def documents(self) -> list[Any]:
        """The lines of the output, as JSON."""
        return [json.loads(line) for line in self.lines]


@dataclass(frozen=True)
class Shell:
    """A terminal of a user, without any variable of Headwater but those that are given."""

    monkeypatch: pytest.MonkeyPatch
    capture: pytest.CaptureFixture[str]

    def set(self, variables: Mapping[str, str]) -> None:
        for name, value in variables.items():
            self.monkeypatch.setenv(name, value)

    def connect(self, system: RunningSystem) -> None:
        """Set the variables of a client of this system."""
        self.set({"HEADWATER_URL": system.base_url, "HEADWATER_API_KEY": system.api_key})

    def run(self, *arguments: str, stdin: str | None = None) -> Result:
        """Run a command, and return its exit status and what it printed."""
        if stdin is not None:
            self.monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self.capture.readouterr()
        status, message = 0, ""
        try:
            main(arguments)
        except SystemExit as ended:
            if isinstance(ended.code, str):
                status, message = 1, f"{ended.code}\n"
            else:
                status = ended.code or 0
        printed = self.capture.readouterr()
        return Result(status, printed.out, printed.err + message)

    def succeed(self, *arguments: str, stdin: str | None = None) -> Result:
        """Run a command that succeeds."""
        result = self.run(*arguments, stdin=stdin)
        assert result.status == 0, result.errors
        return result
