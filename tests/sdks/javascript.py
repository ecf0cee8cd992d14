"""The SDKs of Node and of browsers: installs them from npm, and runs calls in Node and in headless Chromium."""

import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, Final

from tests.sdks.snippets import program, setup

NODE_PACKAGES: Final = (
    "@customerio/cdp-analytics-node",
    "@rudderstack/analytics-js-service-worker",
    "@rudderstack/rudder-sdk-node",
    "@segment/analytics-node",
    "analytics-node",
    "customerio-node",
)
COMPARED_BROWSER_PACKAGES: Final = ("@customerio/cdp-analytics-browser", "@segment/analytics-next")
"""The SDKs of browsers whose events of all calls are compared."""
BROWSER_PACKAGES: Final = (
    *COMPARED_BROWSER_PACKAGES,
    "@ht-sdks/events-sdk-js-browser",
    "@rudderstack/analytics-js",
)
SCRIPTS: Final = ("@rudderstack/analytics-js:script",)
"""SDKs without a bundler."""
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
_BROWSER_CALLS = """
const ARGUMENTS = {
  identify: (call) => [call.userId, call.traits],
  track: (call) => [call.event, call.properties],
  page: (call) => [call.category, call.name, call.properties],
  screen: (call) => [call.category, call.name, call.properties],
  group: (call) => [call.groupId, call.traits],
  alias: (call) => [call.userId, call.previousId],
};
(async () => {
  for (const call of CALLS) {
    const { messageId, timestamp, context, integrations } = call;
    const options = { messageId, timestamp: timestamp && new Date(timestamp), context, integrations };
    await analytics[call.type](...ARGUMENTS[call.type](call), options);
  }
  document.title = "done";
})().catch((error) => { document.title = `failed: ${error}`; });
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
        stamp.write_text(lock)
    return None


def missing_browser() -> str | None:
    """Return the reason why there is no browser; None if there is one."""
    return None if _browser() else "neither chromium nor chrome is installed (Debian: apt-get install chromium)"


def send_from_node(package: str, key: str, address: str, calls: list[dict[str, Any]]) -> None:
    """Make calls, and wait until the SDK has sent them or given up."""
    _run(["node", "--input-type=module", "-"], _program(package, key, address, calls, _NODE_CALLS))


def send_from_browser(
    package: str, key: str, address: str, calls: list[dict[str, Any]], options: dict[str, Any] | None = None
) -> None:
    """Make calls from a page of another origin than the server's, and wait until the SDK has sent them or given up.

    `options` are options of the SDK in a page, in addition to its settings.
    """
    bundle = _bundle(
        _program(package, key, address, calls, _BROWSER_CALLS).replace(
            '" });', f'" }}, {json.dumps(options or {})});', 1
        )
    )
    page = _open_page(_BUNDLED_PAGE, bundle)
    assert "<title>done</title>" in page, page


def run_example_in_node(package: str, key: str, address: str) -> None:
    """Run the example of the documentation, and wait until the SDK has sent the event or given up."""
    _run(["node", "--input-type=module", "-"], program(package, key, address))


def run_example_in_browser(package: str, key: str, address: str) -> None:
    """Run the example of the documentation in a page, and wait until the SDK has sent the event or given up."""
    text = program(package, key, address)
    if package in SCRIPTS:
        _open_page(text)
    else:
        _open_page(_BUNDLED_PAGE, _bundle(text))


def _bundle(text: str) -> str:
    return _run(
        [str(FOLDER / "node_modules" / ".bin" / "esbuild"), "--bundle", "--format=iife", "--log-level=error"], text
    )


def _open_page(html: str, script: str = "") -> str:
    """Open a page and its script `page.js` for 20 seconds of the browser's clock, which skips waits; return its DOM."""
    browser = _browser()
    assert browser is not None
    with TemporaryDirectory() as folder, _served(Path(folder)) as origin:
        (Path(folder) / "index.html").write_text(html)
        (Path(folder) / "page.js").write_text(script)
        (Path(folder) / "node_modules").symlink_to(FOLDER / "node_modules")
        flags = [
            "--headless=new",
            "--no-sandbox",  # root cannot use the sandbox; the page is written by this test
            "--disable-gpu",
            "--disable-background-networking",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost, EXCLUDE 127.0.0.1",  # nothing leaves the machine
            f"--user-data-dir={folder}/profile",
        ]
        return _run([browser, *flags, "--virtual-time-budget=20000", "--dump-dom", f"{origin}/index.html"])


def _program(package: str, key: str, address: str, calls: list[dict[str, Any]], loop: str) -> str:
    return f"{setup(package, key, address)}\nconst CALLS = {json.dumps(calls)};\n{loop}"


def _run(command: list[str], stdin: str = "") -> str:
    done = subprocess.run(command, cwd=FOLDER, input=stdin, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _browser() -> str | None:
    found = map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    return next(filter(None, found), None)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()
