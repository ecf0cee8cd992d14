"""The access of commands to a server: its address, the API key, and the output that the user asked for."""

import argparse
import ipaddress
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from headwater.cli.client import Client, Query, check_url
from headwater.cli.errors import CommandError, UsageError
from headwater.cli.tables import format_table, parse_identifier, printable, style, terminal_width
from headwater.server.settings import URL_VARIABLE, Settings, read, variable

MAX_INPUT_BYTES: Final = 16 << 20
"""Maximum size of a JSON document that a command reads. It is above every limit of the server."""

Item = Mapping[str, Any]
Columns = Mapping[str, Callable[[Item], object]]
"""The columns of a table by their heads, each with the function that returns a cell."""


@dataclass(frozen=True, slots=True)
class Api:
    """One server, and the form of the output."""

    client: Client
    is_json: bool

    def print_list(self, items: Iterable[bytes], columns: Columns) -> None:
        """Print items as JSON lines, or as a table."""
        if self.is_json:
            for item in items:
                print_json(item)
            return
        rows = [[format_cell(cell(each)) for cell in columns.values()] for each in map(json.loads, items)]
        print_table(tuple(columns), rows)

    def print_pages(
        self, path: str, member: str, columns: Columns, query: Query | None = None, limit: int | None = None
    ) -> None:
        """Print a list of the API."""
        self.print_list(self.client.items(path, member, query, limit), columns)

    def print_object(self, body: bytes, names: Sequence[str] | None = None) -> None:
        """Print a JSON object as it is, or as a table of its members."""
        if self.is_json:
            print_json(body)
            return
        members = json.loads(body)
        rows = [
            [name, format_cell(members[name])]
            for name in (names if names is not None else members)
            if members.get(name) not in (None, "", [], {})
        ]
        print_table(("NAME", "VALUE"), rows)

    def print_created(self, body: bytes, member: str = "id") -> None:
        """Print the id of a resource alone, so that it can be assigned to a variable, or the JSON of the response."""
        if self.is_json:
            print_json(body)
        else:
            print(printable(str(json.loads(body)[member])))

    def print_done(self, body: bytes, text: str = "") -> None:
        """Print the JSON of the response, or a text for people."""
        if self.is_json:
            print_json(body)
        elif text:
            print(text)


def open_api(environ: Mapping[str, str], arguments: argparse.Namespace) -> Api:
    """Return the server that the arguments and variables name. Raises StartupError."""
    settings = _read_settings(environ, arguments)
    url = given_url(environ, arguments)
    workspace = getattr(arguments, "workspace", None)
    return Api(
        Client(
            settings.base_url if url is None else url,
            _find_key(settings, url, arguments),
            None if workspace is None else parse_identifier(workspace),
            certificate=settings.tls_cert if url is None else None,
        ),
        arguments.json,
    )


def given_url(environ: Mapping[str, str], arguments: argparse.Namespace) -> str | None:
    """Return the address that the user gave; None: the server of this machine. Raises UsageError."""
    if arguments.url is not None:
        return check_url(arguments.url, "--url")
    if environ.get(URL_VARIABLE):
        return check_url(environ[URL_VARIABLE], URL_VARIABLE)
    return None


def print_json(text: bytes) -> None:
    """Print a JSON text in one line, exactly as it is."""
    sys.stdout.write(text.decode(errors="replace").strip() + "\n")


def print_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table as wide as the terminal."""
    head, *lines = format_table(heads, rows, terminal_width(sys.stdout)).split("\n")
    print("\n".join([style(head, "bold", sys.stdout), *lines]))


def format_cell(value: object) -> str:
    """Return a value of JSON for people."""
    match value:
        case None:
            return ""
        case str():
            return _format_time(value)
        case bool():
            return "yes" if value else "no"
        case list() if all(isinstance(each, str | int) for each in value):
            return ", ".join(map(str, value))
        case list() | dict():
            return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return str(value)


def member(name: str) -> Callable[[Item], object]:
    """Return a function that returns a member of an item; None if it is absent."""
    return lambda item: item.get(name)


def read_document(file: str | None, members: Mapping[str, object] | None = None) -> bytes:
    """Return the JSON object in a file, or in standard input for `-`, with the members that options give.

    A document without further members is returned exactly as it is. Raises UsageError.
    """
    given = {name: value for name, value in (members or {}).items() if value is not None}
    if file is None:
        return json.dumps(given).encode()
    name = "standard input" if file == "-" else file
    try:
        if file == "-":
            text = sys.stdin.buffer.read(MAX_INPUT_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                text = opened.read(MAX_INPUT_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{printable(name)} cannot be read: {error.strerror}") from None
    if len(text) > MAX_INPUT_BYTES:
        raise UsageError(f"{printable(name)} is larger than {MAX_INPUT_BYTES >> 20} MiB")
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{printable(name)} is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{printable(name)} must contain a JSON object")
    return json.dumps({**document, **given}).encode() if given else text


def _read_settings(environ: Mapping[str, str], arguments: argparse.Namespace) -> Settings:
    """Return the few settings that a client needs. The others may be wrong, or absent on this machine."""
    names = [variable(name) for name in ("host", "port", "tls_cert", "tls_key", "data_dir", "api_key")]
    return read({name: environ[name] for name in names if name in environ}, {"data_dir": arguments.data_dir})


def _find_key(settings: Settings, url: str | None, arguments: argparse.Namespace) -> str:
    """Return the API key. The generated key of this machine is sent to this machine only, or where it is asked for."""
    if settings.api_key is not None:
        return settings.api_key
    path = settings.api_key_path
    if url is not None and arguments.data_dir is None and not _is_local(url):
        raise CommandError(f"set {variable('api_key')} to a key of {url}: the key in {path} is for this machine only")
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        raise CommandError(
            f"there is no API key: set {variable('api_key')}, or the folder with the file api-key: --data-dir FOLDER "
            f"({path} does not exist)"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CommandError(f"the API key in {path} cannot be read: {error}") from None


def _is_local(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _format_time(text: str) -> str:
    """Return a time of the API without its fraction, and any other text as it is."""
    if len(text) >= 20 and text[10] == "T" and text.endswith("Z") and text[:4].isdigit():
        return text[:19].replace("T", " ")
    return text
