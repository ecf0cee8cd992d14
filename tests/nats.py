"""A real NATS server for the tests, from a wheel: started, killed, frozen, and started again with its stored data."""

import shutil
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

from tests.system import free_port, wait_until

_CONFIGURATION = """
listen: "127.0.0.1:{port}"
max_payload: {max_payload}
jetstream {{ store_dir: "{folder}/jetstream", sync_interval: always, max_file_store: {max_file_store} }}
authorization {{ user: headwater, password: "{password}" }}
"""
PASSWORD = "secret-of-nats"


class NatsServer:
    """A server of one test, on 127.0.0.1, which fsyncs before it acknowledges. Call `close` at the end."""

    def __init__(self, *, max_payload: int = 1 << 20, max_file_store: int = 1 << 36, started: bool = True) -> None:
        self.port = free_port()
        self.url = f"nats://headwater:{PASSWORD}@127.0.0.1:{self.port}"
        self._folder = Path(tempfile.mkdtemp(prefix="headwater-nats-"))
        self._output = self._folder / "output"
        self._configuration = self._folder / "nats.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(
                port=self.port,
                folder=self._folder,
                password=PASSWORD,
                max_payload=max_payload,
                max_file_store=max_file_store,
            )
        )
        self._names = count(1)
        self._thread = ThreadPoolExecutor(1, "nats")
        self._process: subprocess.Popen[bytes] | None = None
        if started:
            self.start()

    def stream(self) -> str:
        """Return a name that no stream has yet."""
        return f"TEST-{next(self._names)}"

    def start(self) -> None:
        """Start it, also after `stop`, with all stored data; wait until it accepts connections."""
        program = Path(sys.executable).with_name("nats-server")
        before = self._starts()
        with self._output.open("ab") as output:

            def spawn() -> subprocess.Popen[bytes]:
                return subprocess.Popen(
                    # It ends with the tests, also if these are killed. Not by preexec_fn: it makes Python fork, and
                    # that is not safe with the threads of a gRPC client.
                    ["setpriv", "--pdeathsig", "KILL", str(program), "-c", str(self._configuration)],
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                )

            # The kernel signals at the end of the thread that forked, and a caller's thread may end before its test.
            self._process = self._thread.submit(spawn).result()
        wait_until(lambda: self._starts() > before or self._ended(), 60)
        assert not self._ended(), self._output.read_text()

    def stop(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Stop it: SIGKILL is a crash, SIGTERM an orderly end."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def freeze(self) -> None:
        """Suspend all of its threads: connections stay open, and it sends nothing."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        tasks = Path(f"/proc/{self._process.pid}/task")  # each of its threads stops when it is scheduled next
        wait_until(lambda: all(_state(task) == "T" for task in tasks.iterdir()), 60)

    def thaw(self) -> None:
        """Resume the suspended threads."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.stop()
        self._thread.shutdown()
        shutil.rmtree(self._folder)

    def _starts(self) -> int:
        return self._output.read_text().count("Server is ready") if self._output.exists() else 0

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None


def _state(task: Path) -> str:
    """Return the letter of the kernel for the state of a thread: T if it is stopped."""
    return (task / "stat").read_text().rpartition(") ")[2][:1]
