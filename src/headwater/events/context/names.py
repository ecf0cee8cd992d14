"""The names of browsers and operating systems: the schema has a short list of each, clients have many spellings."""

from typing import Final

from headwater.schemas import EVENT_SCHEMA, StringType, property_at

OTHER: Final = "Other"
"""The name of everything that is not on the list; the member `other` has the actual name."""


def _listed(path: str) -> dict[str, str]:
    type_ = property_at(EVENT_SCHEMA, path).type
    assert isinstance(type_, StringType)
    return {name.lower(): name for name in type_.values or ()}


BROWSERS: Final = _listed("context.browser.name") | {"microsoft edge": "Edge"}
"""The browser of each spelling that clients send, in lower case."""

SYSTEMS: Final = _listed("context.os.name") | {
    "chromeos": "Chrome OS",
    "darwin": "macOS",
    "ipados": "iOS",
    "iphone os": "iOS",
    "mac os": "macOS",
    "mac os x": "macOS",
}
"""The operating system of each spelling that clients send, in lower case."""

BROWSER_FAMILIES: Final = BROWSERS | {
    "chrome mobile": "Chrome",
    "chrome mobile ios": "Chrome",
    "chrome mobile webview": "Chrome",
    "edge mobile": "Edge",
    "firefox ios": "Firefox",
    "firefox mobile": "Firefox",
    "mobile safari": "Safari",
    "mobile safari ui/wkwebview": "Safari",
    "opera gx": "Opera",
    "opera mini": "Opera",
    "opera mobile": "Opera",
    "opera touch": "Opera",
}
"""The browser of each user agent family. Internet Explorer is another browser than Edge."""

SYSTEM_FAMILIES: Final = SYSTEMS | dict.fromkeys(
    (
        "arch linux",
        "centos",
        "debian",
        "fedora",
        "gentoo",
        "kubuntu",
        "linux mint",
        "mandriva",
        "mageia",
        "red hat",
        "slackware",
        "suse",
        "ubuntu",
    ),
    "Linux",
)
"""The operating system of each user agent family. Distributions are Linux, because few user agents name them."""
