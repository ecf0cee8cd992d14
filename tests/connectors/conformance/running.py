"""Runs the checks of a conformance suite directly, to show that it finds a broken implementation."""

import inspect
from typing import Any


async def failing_checks(suite: Any) -> set[str]:
    """Return the names of the checks that fail, without their prefix `test_`."""
    failing = set[str]()
    for name, method in inspect.getmembers(suite, inspect.ismethod):
        if name.startswith("test_"):
            for arguments in _cases(method):
                try:
                    result = method(**arguments)
                    if inspect.isawaitable(result):
                        await result
                except (Exception, AssertionError, _Failed):
                    failing.add(name.removeprefix("test_"))
    return failing


def _cases(method: Any) -> list[dict[str, Any]]:
    """Return the arguments of a check: of each case if it is parametrized once, or none."""
    for mark in getattr(method, "pytestmark", ()):
        names, values = mark.args[0], list(mark.args[1])
        if isinstance(names, str):
            return [{names: value} for value in values]
        return [dict(zip(names, value, strict=True)) for value in values]
    return [{}]


def _failed_type() -> type[BaseException]:
    import pytest

    return pytest.fail.Exception  # raised by pytest.raises when nothing is raised; it is not an Exception


_Failed = _failed_type()
