"""Caddy in front, as docs/operating.md configures it: TLS, HTTP/1.1, HTTP/2 and gRPC through one address."""

import os
import re
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc
import httpx
import pytest

from headwater.v1.connections_pb2 import ListConnectionsRequest
from headwater.v1.connections_pb2_grpc import ConnectionServiceStub
from tests.system import RunningSystem, free_port, wait_until

ROOT: Final = Path(__file__).parents[2]
CADDY: Final = Path(sys.executable).with_name("caddy")
GLOBAL: Final = "{\n    admin off\n    skip_install_trust\n    auto_https disable_redirects\n    http_port %d\n}\n"


class Proxy:
    """A running Caddy with a certificate of its own authority."""

    def __init__(self, port: int, folder: Path) -> None:
        self.url = f"https://localhost:{port}"
        self.address = f"localhost:{port}"
        self.authority = folder / "caddy" / "pki" / "authorities" / "local" / "root.crt"


@pytest.fixture(scope="module")
def proxy(system: RunningSystem, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    folder = tmp_path_factory.mktemp("caddy")
    page = (ROOT / "docs" / "operating.md").read_text()
    documented = re.search(r"```\n(cdp\.example\.com \{.*?\n\})\n```", page, flags=re.DOTALL)
    assert documented is not None
    port = free_port()
    site = documented[1].replace("cdp.example.com {", f"localhost:{port} {{\n    tls internal")
    configuration = folder / "Caddyfile"
    configuration.write_text(GLOBAL % free_port() + site.replace("127.0.0.1:8080", f"127.0.0.1:{system.port}") + "\n")
    variables = {
        "HOME": str(folder),
        "XDG_DATA_HOME": str(folder),
        "XDG_CONFIG_HOME": str(folder),
        "PATH": os.defpath,
    }
    command = [str(CADDY), "run", "--config", str(configuration), "--adapter", "caddyfile"]
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(command, env=variables, stdout=output, stderr=output)
    running = Proxy(port, folder)
    try:
        wait_until(lambda: process.poll() is not None or _responds(running), 60)
        assert process.poll() is None, (folder / "output.txt").read_text()
        yield running
    finally:
        process.terminate()
        process.wait(30)


def _responds(proxy: Proxy) -> bool:
    try:
        return proxy.authority.exists() and _get(proxy, "/healthz").status_code == 200
    except httpx.TransportError:
        return False


def _get(proxy: Proxy, path: str, *, http2: bool = False, **headers: str) -> httpx.Response:
    context = ssl.create_default_context(cafile=str(proxy.authority))
    with httpx.Client(verify=context, http1=not http2, http2=http2) as client:
        return client.get(proxy.url + path, headers=headers)


@pytest.mark.parametrize("http2", [False, True])
def test_http_through_caddy(system: RunningSystem, proxy: Proxy, http2: bool) -> None:
    found = _get(proxy, "/v1/connections", http2=http2, **system.authorization)
    assert (found.status_code, found.http_version) == (200, "HTTP/2" if http2 else "HTTP/1.1")
    assert _get(proxy, "/v1/connections").status_code == 401


def test_grpc_through_caddy(system: RunningSystem, proxy: Proxy) -> None:
    credentials = grpc.ssl_channel_credentials(proxy.authority.read_bytes())
    with grpc.secure_channel(proxy.address, credentials) as channel:
        stub = ConnectionServiceStub(channel)
        metadata = (("authorization", system.authorization["authorization"]),)
        assert stub.ListConnections(ListConnectionsRequest(), metadata=metadata, timeout=30) is not None
        with pytest.raises(grpc.RpcError) as refused:
            stub.ListConnections(ListConnectionsRequest(), timeout=30)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
