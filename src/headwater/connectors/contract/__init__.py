"""The contract of connectors, split by capability.

| protocol | capability | calls |
| --- | --- | --- |
| `UserSource` | reads users from an application, page by page | async |
| `UserSink` | writes users to an application, in batches | async |
| `EventSink` | sends events to a destination | async |
| `QuerySource` | reads rows from a database with a query | synchronous |
| `TableSink` | writes rows to a table | synchronous |
| `FileStorage` | reads and writes files | synchronous |
| `FileFormat` | reads tables from files and writes them | synchronous |
| `OAuthProvider` | gets access to an application that a user grants | async |

A connector implements some of them; its `Engine` makes them. Each has a suite of conformance tests in
tests/connectors/conformance. All raise errors of `headwater.base.errors`: Unavailable if the outside system fails or
does not respond, and the error that the method names. Any other exception is a bug.
"""

from headwater.connectors.contract.context import ConnectorContext
from headwater.connectors.contract.engine import NO_ENGINE, Check, Engine, Factory, HttpCheck
from headwater.connectors.contract.events import (
    Attempt,
    EncodedEvent,
    EventRejected,
    EventSink,
    EventType,
    OutgoingEvent,
)
from headwater.connectors.contract.files import (
    FileFormat,
    FileMissing,
    FileReader,
    FileRow,
    FileStorage,
    InvalidFile,
    InvalidFileName,
    InvalidRow,
    NoColumns,
    RowRead,
    RowWriter,
    SheetMissing,
    StoredFile,
)
from headwater.connectors.contract.oauth import (
    MAX_ACCOUNT_CHARACTERS,
    AccessToken,
    AuthorizationRequest,
    AuthorizationRevoked,
    OAuthClient,
    OAuthProvider,
    OAuthTokens,
)
from headwater.connectors.contract.policy import ApiVersion, BatchLimits, Idempotency, RateLimit, SinkPolicy, spread
from headwater.connectors.contract.results import (
    DELIVERED,
    NOT_ATTEMPTED,
    UNEXPECTED_RESPONSE,
    Failure,
    FailureScope,
    ItemResult,
    Outcome,
    SendResult,
    failed,
    rejected,
    retry,
    succeeded,
)
from headwater.connectors.contract.tables import (
    MAX_BATCH_ROWS,
    MAX_COLUMNS,
    Column,
    QueryRejected,
    QuerySource,
    Row,
    Rows,
    TableSink,
    TableWrite,
)
from headwater.connectors.contract.transport import (
    HttpClient,
    HttpRequest,
    HttpResponse,
    TransportError,
    TransportFailure,
)
from headwater.connectors.contract.users import (
    MAX_PAGE_USERS,
    CaseInsensitiveUserSource,
    PacedUserSource,
    SourceUser,
    UserSink,
    UserSource,
    UsersPage,
    UserWrite,
    find_read_rates,
    ignores_case,
)

__all__ = [
    "DELIVERED",
    "MAX_ACCOUNT_CHARACTERS",
    "MAX_BATCH_ROWS",
    "MAX_COLUMNS",
    "MAX_PAGE_USERS",
    "NOT_ATTEMPTED",
    "NO_ENGINE",
    "UNEXPECTED_RESPONSE",
    "AccessToken",
    "ApiVersion",
    "Attempt",
    "AuthorizationRequest",
    "AuthorizationRevoked",
    "BatchLimits",
    "CaseInsensitiveUserSource",
    "Check",
    "Column",
    "ConnectorContext",
    "EncodedEvent",
    "Engine",
    "EventRejected",
    "EventSink",
    "EventType",
    "Factory",
    "Failure",
    "FailureScope",
    "FileFormat",
    "FileMissing",
    "FileReader",
    "FileRow",
    "FileStorage",
    "HttpCheck",
    "HttpClient",
    "HttpRequest",
    "HttpResponse",
    "Idempotency",
    "InvalidFile",
    "InvalidFileName",
    "InvalidRow",
    "ItemResult",
    "NoColumns",
    "OAuthClient",
    "OAuthProvider",
    "OAuthTokens",
    "Outcome",
    "OutgoingEvent",
    "PacedUserSource",
    "QueryRejected",
    "QuerySource",
    "RateLimit",
    "Row",
    "RowRead",
    "RowWriter",
    "Rows",
    "SendResult",
    "SheetMissing",
    "SinkPolicy",
    "SourceUser",
    "StoredFile",
    "TableSink",
    "TableWrite",
    "TransportError",
    "TransportFailure",
    "UserSink",
    "UserSource",
    "UserWrite",
    "UsersPage",
    "failed",
    "find_read_rates",
    "ignores_case",
    "rejected",
    "retry",
    "spread",
    "succeeded",
]
