"""Headless Chromium, one process for all pages, controlled over pipes by the Chrome DevTools Protocol."""

import json
import os
import platform
import shutil
import subprocess
import sys
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from select import select
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any, Final
from urllib.parse import urlsplit

PAGE_TIMEOUT_SECONDS: Final = 60
LOCAL_HOSTS: Final = ("localhost", "127.0.0.1")
PAGE_BUDGET_SECONDS: Final = 20
"""The time that a page gets, by its own clock, which skips waits and stops during requests."""
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",  # root cannot use the sandbox; the pages are written by the tests
    "--no-zygote",
    "--disable-gpu",
    "--disable-background-networking",
    f"--host-resolver-rules=MAP * ~NOTFOUND, {', '.join(f'EXCLUDE {host}' for host in LOCAL_HOSTS)}",
    "--remote-debugging-pipe",
)
_EXTRACT: Final = """
import { createReadStream, createWriteStream } from "node:fs";
import { pipeline } from "node:stream/promises";
import { createBrotliDecompress } from "node:zlib";
const [packed, folder] = process.argv.slice(2);
const extract = (name) => pipeline(createReadStream(`${packed}/${name}.br`), createBrotliDecompress(),
  createWriteStream(`${folder}/${name}`, { mode: 0o755 }));
await Promise.all([extract("chromium"), extract("al2023.tar")]);
"""


class Chromium:
    """A running browser, which opens pages one after another, each without the cookies and the storage of others."""

    def __init__(self, program: Path, libraries: Path | None, served: Path) -> None:
        """Start the program. `served` is the folder that pages may load files of."""
        self._served = served
        self._profile = TemporaryDirectory()
        request_end, requests = os.pipe()
        responses, response_end = os.pipe()
        pipes = f'exec "$@" 3<&{request_end} 4>&{response_end}'
        self._process = subprocess.Popen(
            ["bash", "-c", pipes, "bash", str(program), *_FLAGS, f"--user-data-dir={self._profile.name}"],
            pass_fds=(request_end, response_end),
            env=_environment(libraries),
            stderr=subprocess.DEVNULL,  # it complains about services of a desktop
        )
        os.close(request_end)
        os.close(response_end)
        self._requests, self._responses = requests, responses
        self._unread = b""
        self._events: deque[dict[str, Any]] = deque()
        self._last_id = 0

    def close(self) -> None:
        """End the browser."""
        self._call("Browser.close")
        self._process.wait(PAGE_TIMEOUT_SECONDS)
        os.close(self._requests)
        os.close(self._responses)
        self._profile.cleanup()

    def open(self, html: str, script: str = "") -> str:
        """Open a page with its script `page.js` for PAGE_BUDGET_SECONDS, and return its title at the end.

        Fails if the page requests anything of another machine.
        """
        context = self._call("Target.createBrowserContext")["browserContextId"]
        target = self._call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        with _serve(self._served, {"/index.html": html.encode(), "/page.js": script.encode()}) as origin:
            self._call("Network.enable", session)
            self._call("Page.navigate", session, url=f"{origin}/index.html")
            self._call(
                "Emulation.setVirtualTimePolicy",
                session,
                policy="pauseIfNetworkFetchesPending",
                budget=PAGE_BUDGET_SECONDS * 1000,
            )
            for event in self._events_until("Emulation.virtualTimeBudgetExpired", session):
                if event["method"] == "Network.requestWillBeSent":
                    url = event["params"]["request"]["url"]
                    assert urlsplit(url).hostname in (*LOCAL_HOSTS, None), url
            title: str = self._call("Runtime.evaluate", session, expression="document.title")["result"]["value"]
        self._call("Target.disposeBrowserContext", browserContextId=context)
        return title

    def _call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        self._last_id += 1
        message = {"id": self._last_id, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        os.write(self._requests, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._last_id:
            self._events.append(answer)
        assert "error" not in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    def _events_until(self, last: str, session: str) -> Iterator[dict[str, Any]]:
        """Yield the events of a session before `last`."""
        while True:
            event = self._events.popleft() if self._events else self._receive()
            if event.get("sessionId") == session:
                if event["method"] == last:
                    return
                yield event

    def _receive(self) -> dict[str, Any]:
        """Return the next response or event."""
        while b"\0" not in self._unread:
            ready, _, _ = select([self._responses], [], [], PAGE_TIMEOUT_SECONDS)
            piece = os.read(self._responses, 1 << 16) if ready else b""
            assert piece, "the browser has ended or hangs"
            self._unread += piece
        message, _, self._unread = self._unread.partition(b"\0")
        received: dict[str, Any] = json.loads(message)
        return received


def extract(packages: Path) -> None:
    """Extract the browser of the npm package `@sparticuz/chromium`, which is for Linux on x86-64, once."""
    folder = packages / ".chromium"
    if (sys.platform, platform.machine()) != ("linux", "x86_64") or folder.exists():
        return
    packed = packages / "@sparticuz" / "chromium" / "bin"
    with TemporaryDirectory(dir=packages) as unfinished:
        command = ["node", "--input-type=module", "-", str(packed), unfinished]
        subprocess.run(command, input=_EXTRACT, text=True, check=True, timeout=PAGE_TIMEOUT_SECONDS)
        libraries = Path(unfinished) / "al2023.tar"
        shutil.unpack_archive(libraries, unfinished)
        libraries.unlink()
        shutil.copytree(unfinished, folder)


def find(packages: Path) -> tuple[Path, Path | None] | None:
    """Return a browser that starts here and the folder of its libraries: the one from npm, or else an installed one."""
    folder = packages / ".chromium"
    installed = map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))
    candidates = [(folder / "chromium", folder / "lib"), *((Path(path), None) for path in installed if path)]
    return next((found for found in candidates if _starts(*found)), None)


def _starts(program: Path, libraries: Path | None) -> bool:
    command = [str(program), "--version"]
    return program.exists() and not subprocess.run(command, env=_environment(libraries), capture_output=True).returncode


def _environment(libraries: Path | None) -> dict[str, str]:
    return os.environ | ({} if libraries is None else {"LD_LIBRARY_PATH": str(libraries)})


class _Files(SimpleHTTPRequestHandler):
    """Serves the pages of a test, and the files of a folder."""

    def __init__(self, *args: Any, pages: dict[str, bytes], **kwargs: Any) -> None:
        self._pages = pages
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:
        page = self._pages.get(self.path.partition("?")[0])
        if page is None:
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("content-type", self.guess_type(self.path.partition("?")[0]))
        self.send_header("content-length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def _serve(folder: Path, pages: dict[str, bytes]) -> Iterator[str]:
    handler = partial(_Files, directory=str(folder), pages=pages)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()
