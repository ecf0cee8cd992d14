"""Checks of the running server: its health, the API key, and the difference of the clocks."""

from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from headwater.cli.client import Client
from headwater.cli.doctor.findings import Finding, Installation, ok, problem, warning
from headwater.cli.errors import ApiError, NoServer
from headwater.server.settings import variable

TIMEOUT_SECONDS: Final = 10.0
MAX_CLOCK_DIFFERENCE_SECONDS: Final = 3.0
"""The header Date has whole seconds."""


def check_server(installation: Installation) -> Iterable[Finding]:
    """Check that the server responds, and that the API key is valid."""
    settings = installation.settings
    url = installation.url or settings.base_url
    client = _client(installation, None)
    try:
        with client.open("GET", "/healthz") as response:
            date = response.message.headers.get("date")
    except ApiError as error:
        yield problem("server", f"{url} is not healthy: {error}", "read the log of the server")
        return
    except NoServer as error:
        yield _explain_absence(installation, url, str(error))
        return
    yield ok("server", f"{url} is healthy")
    if date is not None:
        difference = (parsedate_to_datetime(date) - datetime.now(UTC)).total_seconds()
        if abs(difference) > MAX_CLOCK_DIFFERENCE_SECONDS:
            text = f"the clock of the server differs from that of this machine by {difference:+.0f} s"
            yield warning("server clock", text, "synchronise the clocks of both machines (NTP)")
    yield from _check_key(installation)


def _client(installation: Installation, key: str | None) -> Client:
    settings, url = installation.settings, installation.url
    certificate = settings.tls_cert if url is None else None
    return Client(url or settings.base_url, key, timeout_seconds=TIMEOUT_SECONDS, certificate=certificate)


def _check_key(installation: Installation) -> Iterable[Finding]:
    settings = installation.settings
    key, source = settings.api_key, variable("api_key")
    if key is None and installation.url is None and settings.api_key_path.is_file():
        key, source = settings.api_key_path.read_text().strip(), str(settings.api_key_path)
    if key is None:
        yield warning("api key", "no API key is given", f"set {variable('api_key')} to use the commands")
        return
    try:
        _client(installation, key).call("GET", "/v1/workspaces")
    except (ApiError, NoServer) as error:
        yield problem("api key", f"{source}: {error}", "make a key: `headwater keys create NAME`")
    else:
        yield ok("api key", f"{source} is valid")


def _explain_absence(installation: Installation, url: str, reason: str) -> Finding:
    if installation.is_running:
        text = f"process {installation.supervisor} holds the data directory, but nothing responds at {url}"
        return problem("server", text, "wait until it is ready, or read its log")
    if installation.url is not None:
        return problem("server", reason, f"start the server, or change {url}")
    return ok("server", "not running")
