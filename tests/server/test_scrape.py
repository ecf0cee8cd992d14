"""The metrics port: one valid page out of the pages of several processes."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from headwater.server.errors import StartupError
from headwater.server.probe import request
from headwater.server.scrape import handler, merge_pages, metrics_port
from headwater.server.settings import Settings
from tests.system import free_port

BACKEND = """\
# HELP process_open_fds Open files.
# TYPE process_open_fds gauge
process_open_fds 7.0
# HELP headwater_rpc_handled_total Calls.
# TYPE headwater_rpc_handled_total counter
headwater_rpc_handled_total{method="/a.B/C",status="OK"} 3.0
"""
WORKER = """\
# HELP process_open_fds Open files.
# TYPE process_open_fds gauge
process_open_fds 5.0
"""


def test_each_metric_is_described_once_and_each_sample_names_its_process() -> None:
    assert merge_pages({"backend": BACKEND, "worker": WORKER}).splitlines() == [
        "# HELP process_open_fds Open files.",
        "# TYPE process_open_fds gauge",
        'process_open_fds{process="backend"} 7.0',
        'process_open_fds{process="worker"} 5.0',
        "# HELP headwater_rpc_handled_total Calls.",
        "# TYPE headwater_rpc_handled_total counter",
        'headwater_rpc_handled_total{process="backend",method="/a.B/C",status="OK"} 3.0',
    ]


@pytest.mark.parametrize("pages", [{}, {"backend": ""}, {"backend": "\n\n"}, {"backend": "no metrics\n"}])
def test_pages_without_metrics_add_nothing(pages: dict[str, str]) -> None:
    assert merge_pages(pages) == ""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(run_dir=tmp_path, metrics_port=free_port())


@asynccontextmanager
async def showing(text: str, socket: Path) -> AsyncIterator[None]:
    async def page() -> bytes:
        return text.encode()

    async with await asyncio.start_unix_server(handler(page), socket):
        yield


async def ask(settings: Settings, method: str = "GET", path: str = "/metrics") -> tuple[int, str]:
    assert settings.metrics_port is not None
    return await request(method, path, (settings.metrics_host, settings.metrics_port))


async def test_a_process_that_does_not_answer_is_down_and_the_others_are_shown(settings: Settings) -> None:
    async with showing(BACKEND, settings.metrics_socket("backend")), metrics_port(settings, ("backend", "worker")):
        status, page = await ask(settings)
    assert status == 200
    assert 'headwater_up{process="backend"} 1\n' in page
    assert 'headwater_up{process="worker"} 0\n' in page
    assert 'process_open_fds{process="backend"} 7.0\n' in page


@pytest.mark.parametrize(("method", "path"), [("POST", "/metrics"), ("GET", "/"), ("GET", "/metricsx")])
async def test_there_is_nothing_else(settings: Settings, method: str, path: str) -> None:
    async with metrics_port(settings, ()):
        assert (await ask(settings, method, path))[0] == 404


@pytest.mark.parametrize("nonsense", [b"\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"x" * 40_000, b""])
async def test_nonsense_harms_nobody(settings: Settings, nonsense: bytes) -> None:
    async with metrics_port(settings, ()):
        reader, writer = await asyncio.open_connection(settings.metrics_host, settings.metrics_port)
        writer.write(nonsense)
        writer.write_eof()
        answer = b""
        try:
            answer = await asyncio.wait_for(reader.read(), 30)
        except ConnectionError:
            pass
        finally:
            writer.close()
        assert answer == b"" or b" 404 " in answer
        assert (await ask(settings))[0] == 200


async def test_without_a_port_nothing_listens(settings: Settings) -> None:
    async with metrics_port(dataclasses.replace(settings, metrics_port=None), ("backend",)):
        with pytest.raises(OSError):
            await ask(settings)


async def test_a_port_that_is_taken_is_said_in_one_line(settings: Settings) -> None:
    async with metrics_port(settings, ()):
        with pytest.raises(StartupError, match="HEADWATER_METRICS_PORT"):
            async with metrics_port(settings, ()):
                pass
