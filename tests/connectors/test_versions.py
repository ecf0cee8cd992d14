"""The versions of vendors' APIs end on days that vendors announce.

The tests do not read the clock, because a build of an unchanged commit must not begin to fail. They compare with
`REVIEWED_ON`, the day on which a person last compared the versions with the vendors' pages, and a release is not made
with an old review.
"""

import re
from datetime import date, timedelta
from pathlib import Path

import pytest

from headwater.connectors.registry import CONNECTORS

REVIEWED_ON = date(2026, 11, 30)
MIN_REMAINING = timedelta(days=180)
"""Remaining time of each version at a review: a release is used for months."""
MAX_REVIEW_AGE = timedelta(days=90)
VERSIONS = {code: connector.version for code, connector in CONNECTORS.items() if connector.version is not None}
CHANGELOG = Path(__file__).resolve().parents[2] / "CHANGELOG.md"


@pytest.mark.parametrize("code", VERSIONS)
def test_a_version_lasts_long_enough_after_the_review(code: str) -> None:
    ends_on = VERSIONS[code].ends_on
    assert ends_on is None or ends_on - REVIEWED_ON >= MIN_REMAINING, f"{code}: use a newer version of the API"


def test_the_versions_were_reviewed_before_the_last_release() -> None:
    released = [
        date.fromisoformat(day) for day in re.findall(r"^## \[?[0-9.]+\]? - (\S+)$", CHANGELOG.read_text(), re.M)
    ]
    assert not released or max(released) - REVIEWED_ON <= MAX_REVIEW_AGE, "compare the versions with the vendors' pages"
