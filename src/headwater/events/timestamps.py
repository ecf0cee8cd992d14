"""Reads the timestamps that SDKs send, and corrects them for the difference between the client's clock and ours."""

from datetime import UTC, datetime


def parse_timestamp(text: str) -> datetime:
    """An ISO 8601 date or date and time, in UTC, to the microsecond; without an offset it is taken as UTC.

    Raises ValueError for anything else, and for a moment outside the years 1 to 9999.
    """
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is UTC:  # as nearly all SDKs write it
            return moment
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ValueError("is not an ISO 8601 date and time") from error


def correct(client_time: datetime, *, sent: datetime, received: datetime) -> datetime:
    """`client_time` moved by how far the client's clock was off when it sent the call.

    Network time counts as clock error, as it does in every SDK of this family. A result outside the years 1 to 9999
    gives `received`.
    """
    try:
        return client_time + (received - sent)
    except OverflowError:
        return received
