"""Describes the app and the device of an event for Meta, of which the SDK has put the parts into its context."""

from typing import Any, Final

import msgspec

from headwater.connectors.contract import EventRejected

_VERSIONS: Final = {"iOS": "i2", "Android": "a2"}
"""The version of the description, by the operating system."""


class _App(msgspec.Struct, frozen=True):
    namespace: Any = ""
    version: Any = ""
    build: Any = ""


class _Device(msgspec.Struct, frozen=True):
    model: Any = ""


class _Network(msgspec.Struct, frozen=True):
    carrier: Any = ""


class _System(msgspec.Struct, frozen=True):
    name: Any = ""
    version: Any = ""


class _Screen(msgspec.Struct, frozen=True):
    width: Any = ""
    height: Any = ""
    density: Any = ""


class _Context(msgspec.Struct, frozen=True):
    app: _App = _App()
    device: _Device = _Device()
    locale: Any = ""
    network: _Network = _Network()
    os: _System = _System()
    screen: _Screen = _Screen()
    timezone: Any = ""


class _Event(msgspec.Struct, frozen=True):
    context: _Context = _Context()


_decode: Final = msgspec.json.Decoder(_Event).decode


def read_app_data(document: bytes, values: dict[str, Any]) -> dict[str, Any]:
    """Return the `app_data` of a stored event. Tracking that is not stated counts as not permitted.

    Raises EventRejected without the operating system and its version, which Meta requires.
    """
    try:
        context = _decode(document).context
    except msgspec.ValidationError as error:
        raise EventRejected("MissingAppData", f"the context of the event is not that of an app: {error}") from None
    app, system, screen = context.app, context.os, context.screen
    version = _VERSIONS.get(_text(system.name))
    if version is None or not _text(system.version):
        raise EventRejected(
            "MissingAppData", "the event of an app has no context.os with the name iOS or Android, and a version"
        )
    extinfo = (
        version,
        app.namespace,
        app.version,
        app.build or app.version,
        system.version,
        context.device.model,
        str(context.locale or "").replace("-", "_"),
        "",  # the abbreviation of the time zone
        context.network.carrier,
        screen.width,
        screen.height,
        screen.density,
        "",  # processor cores
        "",  # external storage
        "",  # free space of it
        context.timezone,
    )
    tracking = ("advertiser_tracking_enabled", "application_tracking_enabled")
    return {**{name: int(values.get(name) or False) for name in tracking}, "extinfo": [_text(each) for each in extinfo]}


def _text(value: object) -> str:
    return str(value) if isinstance(value, str | int | float) else ""
