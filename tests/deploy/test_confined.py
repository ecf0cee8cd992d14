"""The system as a container runs it: no capabilities, no new privileges, and a file system that it cannot write."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from headwater.server import health
from headwater.server.settings import read
from tests.system import HEADWATER, HTTP, free_port, wait_until

KEY: Final = "api_0123456789abcdefghijklmnopqrstuvwxyzABCD"
CONFINE: Final = """
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/tmp
mount -o remount,bind,ro /
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs -- "$@"
"""
TOOLS: Final = ("unshare", "setpriv", "mount")

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or not all(map(shutil.which, TOOLS)), reason="run as root with util-linux to confine the system"
)


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start a confined system, and return its port. Its data is in a namespace of its own."""
    port, folder = free_port(), tmp_path_factory.mktemp("confined")
    variables = {
        "HEADWATER_API_KEY": KEY,
        "HEADWATER_DATA_DIR": "/mnt/data",
        "HEADWATER_PORT": str(port),
        "PYTHONDONTWRITEBYTECODE": "1",
        "TMPDIR": "/mnt/tmp",
        "PATH": os.environ["PATH"],
    }
    command = ["unshare", "--mount", "sh", "-c", CONFINE, "sh", *HEADWATER, "serve"]
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, env=variables, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        try:
            wait_until(lambda: process.poll() is not None or not _reason(port), 90)
            assert process.poll() is None, (folder / "output.txt").read_text()
            yield port
        finally:
            process.terminate()
            status = process.wait(60)
    assert status == 0, (folder / "output.txt").read_text()


def _reason(port: int) -> str | None:
    return health.check(read({"HEADWATER_PORT": str(port)}))


def test_a_confined_system_stores_events(port: int) -> None:
    url, headers = f"http://127.0.0.1:{port}", {"authorization": f"Bearer {KEY}"}
    source = HTTP.post(
        f"{url}/v1/connections", headers=headers, json={"name": "Web", "role": "Source", "connector": "http"}
    )
    connection = source.json()["id"]
    pipeline = {"connection": connection, "target": "Event", "name": "Store", "enabled": True}
    assert HTTP.post(f"{url}/v1/pipelines", headers=headers, json=pipeline).status_code == 200
    [key] = HTTP.get(f"{url}/v1/connections/{connection}/event-write-keys", headers=headers).json()["keys"]
    event = {"userId": "ada", "event": "Order Completed"}
    assert HTTP.post(f"{url}/v1/track", auth=(key, ""), json=event).status_code == 200
    wait_until(lambda: HTTP.get(f"{url}/v1/events", headers=headers).json()["events"] != [], 30)


def test_the_health_check_names_the_reason(port: int) -> None:
    assert _reason(port) is None
    free = free_port()
    assert _reason(free) == f"no connection to http://127.0.0.1:{free}: Connect call failed ('127.0.0.1', {free})"


def test_health_needs_only_the_standard_library() -> None:
    loaded = (
        "import sys; before = set(sys.modules); import headwater.server.health; print(*(set(sys.modules) - before))"
    )
    found = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True).stdout.split()
    foreign = {name.partition(".")[0] for name in found} - set(sys.stdlib_module_names) - {"headwater"}
    assert foreign == set()
