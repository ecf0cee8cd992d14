"""Removes secrets from texts, and formats requests for previews.

Logs, previews, traces and stored responses pass through a `Redactor`. A destination may repeat a secret in an error
message, in another encoding than that of the request.
"""

import base64
import gzip
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import quote, quote_plus

import msgspec

from headwater.connectors.contract.transport import HttpRequest
from headwater.connectors.settings import REDACTED

MIN_SECRET_CHARACTERS: Final = 4
"""Minimum length of a secret. Shorter ones are not replaced, because they would match everywhere."""
MAX_PREVIEW_BYTES: Final = 1024 * 1024

_SECRET_HEADERS: Final = frozenset(
    {"authorization", "proxy-authorization", "cookie", "set-cookie", "x-api-key", "api-key"}
)


class Redactor:
    """Replaces secrets by `REDACTED`, plain and in the encodings of URLs, JSON and base64."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        forms = {form for secret in secrets if len(secret) >= MIN_SECRET_CHARACTERS for form in _forms(secret)}
        self._forms = [(form.lower(), form) for form in sorted(forms, key=lambda form: (-len(form), form))]

    def redact(self, text: str) -> str:
        """Return the text without secrets."""
        lowered = text.lower()
        # Nearly every text has none: a search for each form is about 100 times as fast as a pattern of all forms.
        found = [form for lower, form in self._forms if lower in lowered]
        if not found:
            return text
        return re.sub("|".join(map(re.escape, found)), REDACTED, text, flags=re.IGNORECASE)

    def redact_headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return headers without secrets; headers for credentials are redacted as a whole."""
        return {
            name: REDACTED if name.lower() in _SECRET_HEADERS else self.redact(value) for name, value in headers.items()
        }

    def process_log(self, _logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        """Redact a log entry: a processor for structlog."""
        return {key: self._redact_value(value) for key, value in event.items()}

    def _redact_value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.redact(value)
        if isinstance(value, dict):
            return {key: self._redact_value(each) for key, each in value.items()}
        return [self._redact_value(each) for each in value] if isinstance(value, list | tuple) else value


def format_request(request: HttpRequest, redactor: Redactor) -> str:
    """Return a request as text, in the documented form of previews.

    The first line is `METHOD URL`; headers follow by name, each ended by CR and LF; then an empty line and the body.
    JSON is indented by 2 spaces, each line of NDJSON by 4. A gzip body is shown decompressed, up to
    `MAX_PREVIEW_BYTES`.
    """
    headers = redactor.redact_headers({name.lower(): value for name, value in request.headers.items()})
    if request.authorize:
        headers["authorization"] = REDACTED
    lines = "".join(f"{_shown(name)}: {headers[name]}\r\n" for name in sorted(headers))
    body = redactor.redact(_shown_body(request))
    return f"{request.method} {redactor.redact(request.url)}\n{lines}\n{body}"


def _shown(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))


def _shown_body(request: HttpRequest) -> str:
    headers = {name.lower(): value.lower() for name, value in request.headers.items()}
    body = request.body
    if headers.get("content-encoding") == "gzip":
        try:
            body = zlib.decompressobj(wbits=31).decompress(body, MAX_PREVIEW_BYTES)
        except (zlib.error, gzip.BadGzipFile):
            return f"[A binary body of {len(request.body)} bytes]"
    media_type = headers.get("content-type", "").partition(";")[0].strip()
    try:
        text = body.decode()
    except UnicodeDecodeError:
        return f"[A binary body of {len(body)} bytes]"
    if media_type == "application/octet-stream":
        return f"[A binary body of {len(body)} bytes]"
    try:
        if media_type == "application/x-ndjson":
            return "\n".join(_indented(line, 4) for line in text.splitlines() if line)
        if media_type == "application/json" or media_type.endswith("+json"):
            return _indented(text, 2)
    except msgspec.DecodeError:
        pass
    return text


def _indented(text: str, spaces: int) -> str:
    return msgspec.json.format(text, indent=spaces)


def _forms(secret: str) -> Iterator[str]:
    yield secret
    yield quote(secret)
    yield quote(secret, safe="")
    yield quote_plus(secret, safe="")
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]
    raw = secret.encode(errors="surrogatepass")
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        # Text next to the secret shifts its base64 characters: keep those that depend on the secret alone.
        for shift in range(3):
            encoded = encode(bytes(shift) + raw).decode().rstrip("=")
            start, end = (shift * 8 + 5) // 6, (shift + len(raw)) * 8 // 6
            if end - start >= MIN_SECRET_CHARACTERS:
                yield encoded[start:end]
