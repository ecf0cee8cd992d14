"""The ages at which data of a workspace is deleted."""

import msgspec

MAX_RETENTION_DAYS = 36_500


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The ages in days at which data is deleted; None for data that is kept."""

    event_days: int | None = None
    """Days since an event arrived."""
    rejected_event_days: int | None = None
    """Days since a rejected event arrived. The oldest are deleted earlier if there are many."""
    anonymous_identity_days: int | None = None
    """Days since an anonymous identity was last updated."""
