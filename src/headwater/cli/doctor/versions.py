"""Checks that the vendors still serve the versions of their APIs that connections use."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Final

from headwater.base.errors import UnusableDatabase
from headwater.catalog.inspecting import read_used_connectors
from headwater.cli.doctor.data import read_catalog
from headwater.cli.doctor.findings import Finding, Installation, ok, problem, warning
from headwater.connectors.contract import ApiVersion
from headwater.connectors.registry import CONNECTORS

NOTICE: Final = timedelta(days=180)
"""Time before the end of a version from which there is a warning."""
_CHECK: Final = "api versions"
_REMEDY: Final = "install a newer release of Headwater, which uses a newer version"


def check_api_versions(installation: Installation) -> Iterable[Finding]:
    """Check the versions of vendors' APIs that the connections of this installation use."""
    try:
        used = read_catalog(installation.settings, read_used_connectors, Counter[str]())
    except UnusableDatabase:
        return  # the check of databases has reported it
    versions = {code: each.version for code, each in CONNECTORS.items() if each.version is not None}
    yield from compare_versions(used, versions, datetime.now(UTC).date())


def compare_versions(
    connections: Mapping[str, int], versions: Mapping[str, ApiVersion], today: date
) -> Iterable[Finding]:
    """Yield the findings about versions. `connections` has the number of connections by connector code."""
    used = {code: version for code, version in versions.items() if connections.get(code)}
    is_ending = False
    for code, version in used.items():
        ends_on = version.ends_on
        if ends_on is None or ends_on - today > NOTICE:
            continue
        is_ending = True
        text = f"version {version.name} of the API of {code}, which {connections[code]} connections use,"
        if ends_on <= today:
            yield problem(_CHECK, f"{text} ended on {ends_on}", _REMEDY)
        else:
            yield warning(_CHECK, f"{text} ends on {ends_on}, in {(ends_on - today).days} days", _REMEDY)
    if not is_ending:
        count = len(used)
        yield ok(_CHECK, f"those of the {count} connectors in use do not end soon" if count else "none is in use")
