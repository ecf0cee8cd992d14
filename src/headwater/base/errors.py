"""The one error tree. Domain code raises these; one interceptor turns them into answers.

    HeadwaterError                      status  code
    ├── BadRequest                      400     BadRequest          syntax; a value that can never be valid
    ├── Unauthorized                    401     Unauthorized        credentials absent or unknown
    ├── Forbidden                       403     Forbidden           known, but not allowed
    ├── NotFound                        404     NotFound            a reference in the path does not exist
    ├── PayloadTooLarge                 413     PayloadTooLarge
    ├── Unprocessable                   422     its own, required   in conflict with the state, or a reference
    │                                                               in the body that does not exist
    ├── TooManyRequests                 429     TooManyRequests     with the seconds to wait
    ├── Unimplemented                   501     NotImplemented      documented, but not built yet
    └── Unavailable                     503     ServiceUnavailable  with the seconds to wait

Anything else that escapes a handler is a defect: it is logged with its traceback and answered 500 without its text.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

Reason = Literal[
    "AlterSchemaInExecution",
    "BadRequest",
    "CannotRunIncrementally",
    "Conflict",
    "ConnectionNotExist",
    "ConnectorNotAvailable",
    "ConnectorNotExist",
    "DefinitionsTooLarge",
    "EngineNotAvailable",
    "EventTypeNotExist",
    "Forbidden",
    "FormatNotExist",
    "HeadersTooLarge",
    "IdentityResolutionInExecution",
    "InternalServerError",
    "InvalidAlterSchema",
    "InvalidEvent",
    "InvalidSettings",
    "LinkedConnectionNotExist",
    "NotFound",
    "NotImplemented",
    "OperationAlreadyExecuting",
    "OrderNotExist",
    "OrderTypeNotSortable",
    "PayloadTooLarge",
    "PipelineDisabled",
    "PropertyNotExist",
    "ReadOnlyKey",
    "RequestTimeout",
    "RunInProgress",
    "SchemaNotAligned",
    "ServiceUnavailable",
    "SingleEventWriteKey",
    "TargetExist",
    "Timeout",
    "TooExpensive",
    "TooManyApiKeys",
    "TooManyConnections",
    "TooManyEventWriteKeys",
    "TooManyPipelines",
    "TooManyRequests",
    "TransformationFailed",
    "TypeNotAllowed",
    "Unauthorized",
    "UnsupportedLanguage",
    "ValidationError",
    "WorkspaceNotExist",
]
"""The reasons of errors. `ErrorReason` of the protos has an example of each."""


class HeadwaterError(Exception):
    """An answer other than success.

    `message` is for people: it names the field and the rule. `code` is for programs and never changes once published.
    `field` is the path of the offending value in the request ("linkedConnections[2]"), when one value is to blame.
    """

    status: ClassVar[int] = 500
    code: Reason = "InternalServerError"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.headers: dict[str, str] = {}
        """What goes with the answer beside its body: HTTP headers, or metadata, by their names in lower case."""

    @property
    def details(self) -> dict[str, str]:
        """What programs may want beside the code, as strings (the metadata of `google.rpc.ErrorInfo`)."""
        return {} if self.field is None else {"field": self.field}

    def __reduce__(self) -> tuple[Callable[..., "HeadwaterError"], tuple[Any, ...]]:
        """Pickle the error by its state: the parameters of constructors differ."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(type_: type[HeadwaterError], arguments: tuple[Any, ...], state: dict[str, Any]) -> HeadwaterError:
    error = type_.__new__(type_, *arguments)
    error.__dict__.update(state)
    return error


class BadRequest(HeadwaterError):
    """The request cannot be understood, or holds a value that is never valid here."""

    status = 400
    code = "BadRequest"


class Unauthorized(HeadwaterError):
    """Credentials are absent, malformed or unknown."""

    status = 401
    code = "Unauthorized"


class Forbidden(HeadwaterError):
    """The caller is known but may not do this."""

    status = 403
    code: Reason = "Forbidden"


class NotFound(HeadwaterError):
    """Something that the path or a header names does not exist in this workspace."""

    status = 404
    code = "NotFound"


class PayloadTooLarge(HeadwaterError):
    """The body, or one item in it, is over its limit."""

    status = 413
    code = "PayloadTooLarge"


class Unprocessable(HeadwaterError):
    """Well-formed, but in conflict with the present state; `code` says how ("ConnectorNotExist", "TargetExist", …)."""

    status = 422

    def __init__(self, code: Reason, message: str, *, field: str | None = None) -> None:
        super().__init__(message, field=field)
        self.code = code


class _RetryLater(HeadwaterError):
    def __init__(self, message: str, *, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.headers["retry-after"] = str(retry_after)

    @property
    def details(self) -> dict[str, str]:
        return {"retryAfter": str(self.retry_after)}


class TooManyRequests(_RetryLater):
    """Nothing was done; the same request may succeed after `retry_after` seconds."""

    status = 429
    code = "TooManyRequests"


class Unimplemented(HeadwaterError):
    """Part of the documented surface that has no engine yet."""

    status = 501
    code = "NotImplemented"


class Unavailable(_RetryLater):
    """Something that the answer depends on is not reachable; nothing was done."""

    status = 503
    code = "ServiceUnavailable"
