"""Describes the app and the device of an event for Meta, of which the SDK has put the parts into its context."""

from typing import Any, Final

from headwater.connectors.contexts import find_text, read_context
from headwater.connectors.contract import EventRejected

_VERSIONS: Final = {"iOS": "i2", "Android": "a2"}
"""The version of the description, by the operating system."""


def read_app_data(document: bytes, values: dict[str, Any]) -> dict[str, Any]:
    """Return the `app_data` of a stored event. Tracking that is not stated counts as not permitted.

    Raises EventRejected without the operating system and its version, which Meta requires.
    """
    context = read_context(document)
    version = _VERSIONS.get(find_text(context, "os", "name"))
    system_version = find_text(context, "os", "version")
    if version is None or not system_version:
        raise EventRejected(
            "MissingAppData", "the event of an app has no context.os with the name iOS or Android, and a version"
        )
    app_version = find_text(context, "app", "version")
    extinfo = [
        version,
        find_text(context, "app", "namespace"),
        app_version,
        find_text(context, "app", "build") or app_version,
        system_version,
        find_text(context, "device", "model"),
        find_text(context, "locale").replace("-", "_"),
        "",  # the abbreviation of the time zone
        find_text(context, "network", "carrier"),
        find_text(context, "screen", "width"),
        find_text(context, "screen", "height"),
        find_text(context, "screen", "density"),
        "",  # processor cores
        "",  # external storage
        "",  # free space of it
        find_text(context, "timezone"),
    ]
    tracking = ("advertiser_tracking_enabled", "application_tracking_enabled")
    return {**{name: int(values.get(name) or False) for name in tracking}, "extinfo": extinfo}
