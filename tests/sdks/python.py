"""The SDKs of Python, in the process of the tests."""

import re
from copy import deepcopy
from datetime import datetime
from typing import Any, Final

from tests.sdks.snippets import program, setup

PACKAGES: Final = ("customerio-cdp-analytics", "segment-analytics-python", "rudder-sdk-python", "events-sdk-python")


def send(package: str, key: str, address: str, calls: list[dict[str, Any]]) -> None:
    """Make calls, whose members have the names of the wire, and wait until the SDK has sent them or given up."""
    names: dict[str, Any] = {}
    exec(setup(package, key, address), names)
    analytics = names["analytics"]
    for call in deepcopy(calls):  # the SDKs change the context that they get
        arguments = {_snake(name): value for name, value in call.items() if name != "type"}
        if "timestamp" in arguments:
            arguments["timestamp"] = datetime.fromisoformat(arguments["timestamp"])
        getattr(analytics, call["type"])(**arguments)
    analytics.shutdown()


def run_example(package: str, key: str, address: str) -> None:
    """Run the example of the documentation, which waits until the SDK has sent the event or given up."""
    exec(program(package, key, address), {})


def _snake(name: str) -> str:
    return re.sub("[A-Z]", lambda upper: f"_{upper[0].lower()}", name)
