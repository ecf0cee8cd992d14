"""The REST API of Salesforce: its version, its errors, and the description of an object."""

from datetime import date
from typing import Final

import msgspec

from headwater.base.errors import Unavailable
from headwater.connectors.contract import ApiVersion, ConnectorContext, HttpRequest, HttpResponse
from headwater.connectors.oauth import find_account_url
from headwater.connectors.users import unavailable

VERSION: Final = ApiVersion(name="66.0", ends_on=date(2029, 2, 1))
"""A version is supported for at least three years from its release, which was in February 2026."""
PATH: Final = f"/services/data/v{VERSION.name}"
LIMIT_EXCEEDED: Final = "REQUEST_LIMIT_EXCEEDED"
LIMIT_PAUSE_SECONDS: Final = 300
"""Pause after the calls of 24 hours are used up. The period is rolling, so calls become free all the time."""
CONCURRENCY_PAUSE_SECONDS: Final = 20
"""Pause if the organization has too many requests that take more than 20 seconds at the same time."""
MAX_RESPONSE_BYTES: Final = 16 << 20


class Error(msgspec.Struct):
    """One error: `error_code` is that of a request, and `status_code` that of a record."""

    message: str = ""
    error_code: str = msgspec.field(name="errorCode", default="")
    status_code: str = msgspec.field(name="statusCode", default="")
    fields: list[str] | None = None

    @property
    def code(self) -> str:
        return self.status_code or self.error_code

    @property
    def reason(self) -> str:
        """Return the code in the form of reasons: `UnableToLockRow` for "UNABLE_TO_LOCK_ROW"."""
        words = "".join(each for each in self.code.title() if each.isascii() and each.isalnum())
        return words or "Refused"

    @property
    def text(self) -> str:
        return f"{self.message} ({', '.join(self.fields)})" if self.fields else self.message


class Field(msgspec.Struct, rename="camel"):
    """One field of an object."""

    name: str
    type: str
    label: str = ""
    length: int = 0
    nillable: bool = True
    createable: bool = False
    updateable: bool = False
    external_id: bool = False
    id_lookup: bool = False
    defaulted_on_create: bool = False
    deprecated_and_hidden: bool = False


class Description(msgspec.Struct):
    """The description of an object."""

    fields: list[Field]


_decode_errors: Final = msgspec.json.Decoder(list[Error]).decode
_decode_description: Final = msgspec.json.Decoder(Description).decode


async def request(context: ConnectorContext, method: str, path: str, body: bytes = b"") -> HttpRequest:
    """Return a request to the account's server; `path` begins with a slash. Raises Unavailable."""
    headers = {"accept": "application/json"}
    return HttpRequest(
        method=method,
        url=f"{await find_account_url(context)}{path}",
        headers=headers | {"content-type": "application/json"} if body else headers,
        body=body,
        authorize=True,
        max_response_bytes=MAX_RESPONSE_BYTES,
    )


def read_errors(response: HttpResponse) -> list[Error]:
    """Return the errors of a request; none if its body is not the documented one."""
    try:
        return _decode_errors(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []


def has_error(response: HttpResponse, code: str) -> bool:
    return any(error.code == code for error in read_errors(response))


def failure(response: HttpResponse, context: ConnectorContext) -> Unavailable:
    """Return the error for a response that is no success and concerns no record."""
    limit = next((error for error in read_errors(response) if error.code == LIMIT_EXCEEDED), None)
    if limit is None:
        return unavailable("Salesforce", response, context)
    if "concurrent" in limit.message.lower():
        return Unavailable(
            "the organization has too many long requests at the same time", retry_after=CONCURRENCY_PAUSE_SECONDS
        )
    return Unavailable("the API calls that Salesforce allows in 24 hours are used up", retry_after=LIMIT_PAUSE_SECONDS)


async def ask_description(context: ConnectorContext, object_: str) -> HttpResponse:
    """Ask for the description of an object, and return the response, with any status. Raises Unavailable."""
    return await context.http.send(await request(context, "GET", f"{PATH}/sobjects/{object_}/describe"))


def read_description(response: HttpResponse) -> Description:
    """Return the description of a response with status 200. Raises Unavailable."""
    try:
        return _decode_description(response.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unavailable("Salesforce describes the object in another form") from None
