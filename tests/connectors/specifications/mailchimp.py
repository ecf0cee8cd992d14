"""Mailchimp's specification, the document of its Marketing API in `arcade-mailchimp-marketing-api`."""

from typing import Final

from tests.connectors.specifications.documents import operation, read_document
from tests.connectors.specifications.specification import Operations

_DOCUMENT: Final = read_document("arcade-mailchimp-marketing-api")
_LIST: Final = "/lists/{list_id}"

SPECIFICATION: Final = Operations(
    operation(_DOCUMENT, "GET", _LIST),
    operation(_DOCUMENT, "POST", _LIST),
    operation(_DOCUMENT, "GET", f"{_LIST}/merge-fields"),
    operation(_DOCUMENT, "GET", f"{_LIST}/members"),
    operation(_DOCUMENT, "PATCH", f"{_LIST}/members/{{subscriber_hash}}"),
)
