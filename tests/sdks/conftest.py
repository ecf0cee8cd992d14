"""SDKs, and their destination: a source of the running system, behind a recorder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.source import Source, make_source
from tests.sdks import javascript, python
from tests.sdks.recorder import Recorder
from tests.system import RunningSystem

Send = Callable[[str, str, str, list[dict[str, Any]]], None]
ON_SERVERS: dict[str, Send] = {
    **dict.fromkeys(python.PACKAGES, python.send),
    **dict.fromkeys(javascript.NODE_PACKAGES, javascript.send_from_node),
}
RunExample = Callable[[str, str, str], None]
EVERYWHERE = ON_SERVERS | dict.fromkeys(javascript.COMPARED_BROWSER_PACKAGES, javascript.send_from_browser)

EXAMPLES: dict[str, RunExample] = {
    **dict.fromkeys(python.PACKAGES, python.run_example),
    **dict.fromkeys(javascript.NODE_PACKAGES, javascript.run_example_in_node),
    **dict.fromkeys((*javascript.BROWSER_PACKAGES, *javascript.SCRIPTS), javascript.run_example_in_browser),
}


@dataclass(frozen=True)
class Sdk:
    """An SDK as its users install it."""

    package: str

    def send(self, key: str, address: str, calls: list[dict[str, Any]]) -> None:
        """Make calls, and wait until the SDK has sent them or given up."""
        EVERYWHERE[self.package](self.package, key, address, calls)

    def run_example(self, key: str, address: str) -> None:
        """Run the example of the documentation, and wait until the SDK has sent the event or given up."""
        EXAMPLES[self.package](self.package, key, address)


@pytest.fixture(scope="session")
def npm_packages() -> None:
    """Skip tests if the packages of npm cannot be installed."""
    if reason := javascript.missing_packages():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(npm_packages: None) -> None:
    """Skip tests if there is no browser."""
    if reason := javascript.missing_browser():
        pytest.skip(reason)


@pytest.fixture(params=EVERYWHERE)
def sdk(request: pytest.FixtureRequest) -> Sdk:
    """Run a test with each SDK; `-k rudder` and the like select."""
    return _installed(request)


@pytest.fixture(params=ON_SERVERS)
def server_sdk(request: pytest.FixtureRequest) -> Sdk:
    """Run a test with each SDK for servers: these send events in batches."""
    return _installed(request)


@pytest.fixture(params=EXAMPLES)
def documented_sdk(request: pytest.FixtureRequest) -> Sdk:
    """Run a test with each example of the documentation."""
    return _installed(request)


def _installed(request: pytest.FixtureRequest) -> Sdk:
    if request.param in javascript.NODE_PACKAGES:
        request.getfixturevalue("npm_packages")
    if request.param in (*javascript.BROWSER_PACKAGES, *javascript.SCRIPTS):
        request.getfixturevalue("browser")
    return Sdk(request.param)


@pytest.fixture
def source(system: RunningSystem) -> Source:
    return make_source(system)


@pytest.fixture
def recorder(system: RunningSystem) -> Iterator[Recorder]:
    with Recorder(system.port) as recorder:
        yield recorder
