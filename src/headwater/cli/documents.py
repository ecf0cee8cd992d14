"""JSON of commands on the database: the members that the API returns."""

import json

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message


def print_document(document: object) -> None:
    """Print a document as one line of JSON."""
    print(json.dumps(document, ensure_ascii=False, separators=(",", ":")))


def print_message(message: Message) -> None:
    """Print a message of the API as the gateway does."""
    print_document(MessageToDict(message, always_print_fields_with_no_presence=True))
