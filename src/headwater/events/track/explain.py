"""The decoder's complaints in the words of JSON: it speaks of Python's types."""

import msgspec

from headwater.events.rejection import Rejection
from headwater.events.wire import IDS, MAX_TEXT_LENGTH, MEMBERS


def explain(error: msgspec.ValidationError, *, root: str = "the event") -> Rejection:
    """Return what is wrong with an event or a body that could not be decoded; `root` is what to call it."""
    _, _, path = str(error).partition(" - at `$.")
    path = path.rstrip("`")
    field = next((field for field, member in MEMBERS.items() if member == path), "")
    if "of length <=" in str(error):
        rule = f"is longer than {MAX_TEXT_LENGTH} characters"
    elif field in IDS:
        rule = "must be a string, a number or null"
    elif path == "batch":
        rule = "must be an array of events"
    elif path:
        rule = "must be a string or null"
    elif "`batch`" in str(error):
        path, rule = "batch", "is required and must be an array of events"
    else:
        return Rejection("BadRequest", "", f"{root} must be a JSON object")
    return Rejection("BadRequest", path, f"{path} {rule}")
