"""The error tree. Domain code raises these errors; one interceptor converts them to responses.

        HeadwaterError                      status  code
        ├── BadRequest                      400     BadRequest          syntax; a value that can never be valid
        ├── Unauthorized                    401     Unauthorized        credentials absent or unknown
        ├── Forbidden                       403     Forbidden           known, but not allowed
        ├── NotFound                        404     NotFound            a reference in the path does not exist
        ├── PayloadTooLarge                 413     PayloadTooLarge
        ├── Unprocessable                   422     its own, required   in conflict with the state, or a reference
        │                                                               in the body that does not exist
        ├── TooManyRequests                 429     TooManyRequests     with the seconds to wait
        ├── Unimplemented                   501     NotImplemented      this installation cannot do it
        └── Unavailable                     503     ServiceUnavailable  with the seconds to wait

Any other exception is a bug. It is logged with its traceback and returned as 500 without details.
"""

from collections.abc import Callable
from typing import Any, ClassVar, Literal

Reason = Literal[
    "AlterSchemaInExecution",
    "AuthorizationRevoked",
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
    "IdentityNotExist",
    "IdentityResolutionInExecution",
    "InternalServerError",
    "InvalidAlterSchema",
    "InvalidEvent",
    "InvalidPath",
    "InvalidPlaceholder",
    "InvalidSettings",
    "InvalidUser",
    "LinkedConnectionNotExist",
    "NoColumnsFound",
    "NoIdentityRemains",
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
    "SheetNotExist",
    "SingleEventWriteKey",
    "TargetExist",
    "Timeout",
    "TooExpensive",
    "TooManyApiKeys",
    "TooManyConnections",
    "TooManyEventWriteKeys",
    "TooManyListeners",
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
    """A response other than success.

    `message` is for people and names the field and the rule. `code` is for programs and never changes after release.
    `field` is the path of the invalid value in the request ("linkedConnections[2]"), if one value is the cause.
    """

    status: ClassVar[int] = 500
    code: Reason = "InternalServerError"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.headers: dict[str, str] = {}
        """HTTP headers, or gRPC metadata, to send with the response; names in lower case."""

    @property
    def details(self) -> dict[str, str]:
        """Return further values for programs (the metadata of `google.rpc.ErrorInfo`)."""
        return {} if self.field is None else {"field": self.field}

    def __reduce__(self) -> tuple[Callable[..., "HeadwaterError"], tuple[Any, ...]]:
        """Pickle the error by its state, because the parameters of the constructors differ."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(type_: type[HeadwaterError], arguments: tuple[Any, ...], state: dict[str, Any]) -> HeadwaterError:
    error = type_.__new__(type_, *arguments)
    error.__dict__.update(state)
    return error


class BadRequest(HeadwaterError):
    """The request cannot be parsed, or contains a value that is never valid here."""

    status = 400
    code = "BadRequest"


class Unauthorized(HeadwaterError):
    """Credentials are absent, malformed or unknown."""

    status = 401
    code = "Unauthorized"


class Forbidden(HeadwaterError):
    """The caller is known but does not have the permission."""

    status = 403
    code: Reason = "Forbidden"


class NotFound(HeadwaterError):
    """A resource that the path or a header names does not exist in this workspace."""

    status = 404
    code = "NotFound"


class PayloadTooLarge(HeadwaterError):
    """The body, or one item of it, exceeds its limit."""

    status = 413
    code = "PayloadTooLarge"


class Unprocessable(HeadwaterError):
    """The request is valid but conflicts with the current state. `code` is the reason ("ConnectorNotExist",
    "TargetExist")."""

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
    """The request had no effect; it may succeed after `retry_after` seconds."""

    status = 429
    code = "TooManyRequests"


class Unimplemented(HeadwaterError):
    """A part of the request that this installation cannot do."""

    status = 501
    code = "NotImplemented"


class Unavailable(_RetryLater):
    """A dependency cannot be reached; the request had no effect."""

    status = 503
    code = "ServiceUnavailable"


class UnusableDatabase(Exception):
    """No work can begin with this database. The message is one line for the operator."""
