"""The SDKs of Node and of browsers: installs them from npm, and runs calls in Node and in headless Chromium."""

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

from tests.sdks import chromium
from tests.sdks.chromium import Chromium
from tests.sdks.snippets import program, setup

NODE_PACKAGES: Final = (
    "@customerio/cdp-analytics-node",
    "@jitsu/js:node",
    "@rudderstack/analytics-js-service-worker",
    "@rudderstack/rudder-sdk-node",
    "@segment/analytics-node",
    "analytics-node",
    "customerio-node",
)
BROWSER_PACKAGES: Final = (
    "@customerio/cdp-analytics-browser",
    "@ht-sdks/events-sdk-js-browser",
    "@jitsu/js",
    "@rudderstack/analytics-js",
    "@segment/analytics-next",
)
SCRIPTS: Final = tuple(f"{package}:script" for package in BROWSER_PACKAGES if package != "@jitsu/js")
"""SDKs without a bundler. Jitsu's script sends to the server that it is loaded from."""
MISSING_CALLS: Final = {
    **dict.fromkeys(("@jitsu/js", "@jitsu/js:node"), ("alias", "screen")),
    "@rudderstack/analytics-js": ("screen",),
}
"""Calls that an SDK does not have."""
MISSING_MEMBERS: Final = dict.fromkeys(("@jitsu/js", "@jitsu/js:node"), ("category", "integrations", "name"))
"""Members of calls that an SDK does not send."""
WITHOUT_NULLS_IN_CONTEXT: Final = ("@rudderstack/analytics-js",)
"""SDKs that remove members that are null from the context."""
FOLDER: Final = Path(__file__).parent / "node"
"""The folder with the list of packages, in which they are installed."""
TIMEOUT_SECONDS: Final = 60
INSTALL_TIMEOUT_SECONDS: Final = 120

_NODE_CALLS = """
const sent = CALLS.map(({ type, timestamp, ...members }) =>
  analytics[type]({ ...members, ...(timestamp && { timestamp: new Date(timestamp) }) }));
const flush = analytics.closeAndFlush ?? analytics.flush ?? (() => {});
await Promise.allSettled([...sent, flush.call(analytics)]); // some SDKs raise the error of a response
"""
_JITSU_CALLS = """
const ARGUMENTS = {
  identify: (call) => [call.userId, call.traits],
  track: (call) => [call.event, call.properties],
  page: (call) => [call.properties],
  group: (call) => [call.groupId, call.traits],
};
const done = (async () => {
  for (const call of CALLS) {
    const { userId, context } = call;
    await analytics[call.type](...ARGUMENTS[call.type](call), { userId, context });
  }
})();
"""
_BROWSER_CALLS = """
const ARGUMENTS = {
  identify: (call) => [call.userId, call.traits],
  track: (call) => [call.event, call.properties],
  page: (call) => [call.category, call.name, call.properties],
  screen: (call) => [call.category, call.name, call.properties],
  group: (call) => [call.groupId, call.traits],
  alias: (call) => [call.userId, call.previousId],
};
const done = (async () => {
  for (const call of CALLS) {
    const { messageId, timestamp, context, integrations } = call;
    const options = { messageId, timestamp: timestamp && new Date(timestamp), context, integrations };
    await analytics[call.type](...ARGUMENTS[call.type](call), options);
  }
})();
"""
_SHOW_END = """
done.then(() => { document.title = "done"; }, (error) => { document.title = `failed: ${error}`; });
"""
_BUNDLED_PAGE = '<!doctype html><meta charset="utf-8"><script src="page.js"></script>'


def missing_packages() -> str | None:
    """Return the reason why the packages cannot be used; None if they are installed as in the lock."""
    if shutil.which("npm") is None:
        return "npm is not installed, and so the SDKs of Node and of browsers are not tested"
    with (FOLDER / "package.json").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # several processes run tests, and one of them installs
        return _install()


def _install() -> str | None:
    lock = (FOLDER / "package-lock.json").read_text()
    stamp = FOLDER / "node_modules" / ".installed-lock"
    if not stamp.exists() or stamp.read_text() != lock:
        command = ["npm", "install", "--no-save"]
        try:
            done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            return f"npm has not installed the SDKs within {INSTALL_TIMEOUT_SECONDS} s"
        if done.returncode != 0:
            return f"npm cannot install the SDKs: {done.stderr.strip()[-500:]}"
        chromium.extract(stamp.parent)
        stamp.write_text(lock)
    return None


def start_browser() -> Chromium | None:
    """Start the browser; return None if there is none."""
    found = chromium.find(FOLDER / "node_modules")
    return None if found is None else Chromium(*found, served=FOLDER)


def send_from_node(package: str, key: str, address: str, calls: list[dict[str, Any]]) -> None:
    """Make calls, and wait until the SDK has sent them or given up."""
    loop = _JITSU_CALLS + "await done;" if package == "@jitsu/js:node" else _NODE_CALLS
    _run(["node", "--input-type=module", "-"], _program(package, key, address, calls, loop))


def send_from_browser(
    browser: Chromium,
    package: str,
    key: str,
    address: str,
    calls: list[dict[str, Any]],
    options: dict[str, Any] | None = None,
) -> None:
    """Make calls from a page of another origin than the server's, and wait until the SDK has sent them or given up.

    `options` are options of the SDK in a page, in addition to its settings.
    """
    loop = (_JITSU_CALLS if package == "@jitsu/js" else _BROWSER_CALLS) + _SHOW_END
    text = _program(package, key, address, calls, loop)
    if options is not None:
        text = text.replace('" });', f'" }}, {json.dumps(options)});', 1)
    bundle = _bundle(text)
    assert browser.open(_BUNDLED_PAGE, bundle) == "done"


def run_example_in_node(package: str, key: str, address: str) -> None:
    """Run the example of the documentation, and wait until the SDK has sent the event or given up."""
    _run(["node", "--input-type=module", "-"], program(package, key, address))


def run_example_in_browser(browser: Chromium, package: str, key: str, address: str) -> None:
    """Run the example of the documentation in a page, and wait until the SDK has sent the event or given up."""
    text = program(package, key, address)
    if package in SCRIPTS:
        browser.open(text)
    else:
        browser.open(_BUNDLED_PAGE, _bundle(text))


def _bundle(text: str) -> str:
    return _run(
        [str(FOLDER / "node_modules" / ".bin" / "esbuild"), "--bundle", "--format=iife", "--log-level=error"], text
    )


def _program(package: str, key: str, address: str, calls: list[dict[str, Any]], loop: str) -> str:
    return f"{setup(package, key, address)}\nconst CALLS = {json.dumps(calls)};\n{loop}"


def _run(command: list[str], stdin: str = "") -> str:
    done = subprocess.run(command, cwd=FOLDER, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout
