"""SDKs, and their destination: a source of the running system, behind a recorder."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest

from tests.e2e.source import Source, make_source
from tests.sdks import javascript, python
from tests.sdks.chromium import Chromium
from tests.sdks.recorder import Recorder
from tests.system import RunningSystem

Send = Callable[[str, str, list[dict[str, Any]]], None]
RunExample = Callable[[str, str], None]
ON_SERVERS = (*python.PACKAGES, *javascript.NODE_PACKAGES)
EVERYWHERE = (*ON_SERVERS, *javascript.BROWSER_PACKAGES)
EXAMPLES = (*EVERYWHERE, *javascript.SCRIPTS)


@dataclass(frozen=True)
class Sdk:
    """An SDK as its users install it."""

    package: str
    send: Send
    """Makes calls with a key to an address, and waits until the SDK has sent them or given up."""
    run_example: RunExample
    """Runs the example of the documentation, and waits until the SDK has sent the event or given up."""


@pytest.fixture(scope="session")
def npm_packages() -> None:
    """Skip tests if the packages of npm cannot be installed."""
    if reason := javascript.missing_packages():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(npm_packages: None) -> Iterator[Chromium]:
    """Start one browser for all tests. Skip them if there is none."""
    browser = javascript.start_browser()
    if browser is None:
        pytest.skip(
            "SDKs of browsers are not tested without a browser: install chromium (Debian: apt-get install chromium)"
        )
    yield browser
    browser.close()


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
    package: str = request.param
    if package in python.PACKAGES:
        return Sdk(package, partial(python.send, package), partial(python.run_example, package))
    if package in javascript.NODE_PACKAGES:
        request.getfixturevalue("npm_packages")
        return Sdk(
            package,
            partial(javascript.send_from_node, package),
            partial(javascript.run_example_in_node, package),
        )
    browser: Chromium = request.getfixturevalue("browser")
    return Sdk(
        package,
        partial(javascript.send_from_browser, browser, package),
        partial(javascript.run_example_in_browser, browser, package),
    )


@pytest.fixture
def source(system: RunningSystem) -> Source:
    return make_source(system)


@pytest.fixture
def recorder(system: RunningSystem) -> Iterator[Recorder]:
    with Recorder(system.port) as recorder:
        yield recorder
