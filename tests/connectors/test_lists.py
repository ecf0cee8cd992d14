"""The lists of available connectors in the documentation are those of the registry."""

import re
from pathlib import Path
from typing import Final

import pytest

from headwater.connectors.connector import Connector
from headwater.connectors.registry import CONNECTORS

ROOT: Final = Path(__file__).resolve().parents[2]
PAGE: Final = ROOT / "docs" / "connectors" / "README.md"
PAGES: Final = {
    "Database": "../databases.md",
    "File": "../files.md",
    "FileStorage": "../files.md",
    "SDK": "../sdks.md",
    "Webhook": "webhooks.md",
}
"""The pages of connectors that have none of their own, by type."""
OTHER_PAGES: Final = {"dummy": "../applications.md", "sample-oauth-app": "../oauth.md"}
AVAILABLE: Final = {code: connector for code, connector in CONNECTORS.items() if connector.available}


def row(connector: Connector) -> str:
    """Return the row of a connector in the page of connectors."""
    code = connector.code
    link = PAGES.get(connector.type) or OTHER_PAGES.get(code) or f"{code}.md"
    incoming, outgoing = (
        () if capabilities is None else capabilities.targets
        for capabilities in (connector.source, connector.destination)
    )
    cells = ["Event" in incoming, "User" in incoming, "Event" in outgoing, "User" in outgoing]
    return " | ".join([f"| [{connector.label}]({link})", f"`{code}`", *("✓" if each else "" for each in cells)]) + " |"


@pytest.mark.parametrize("type_", sorted({each.type for each in AVAILABLE.values()}))
def test_the_page_of_connectors_lists_all_of_a_type(type_: str) -> None:
    expected = [row(each) for each in AVAILABLE.values() if each.type == type_]
    section = PAGE.read_text().partition(f"<!-- tested: {type_} -->")[2].partition("\n\n")[0]
    rows = section.strip().splitlines()[2:]
    assert rows == expected, "these are the rows of the registry:\n" + "\n".join(expected)


def test_the_links_of_the_page_lead_to_pages() -> None:
    for link in re.findall(r"\]\((\S+?)\)", PAGE.read_text()):
        assert (PAGE.parent / link.partition("#")[0]).exists(), link


def test_the_readme_names_all() -> None:
    [named] = re.findall(r"^\| \[Connectors\].*", (ROOT / "README.md").read_text(), re.MULTILINE)
    codes = set(re.findall(r"`([a-z0-9-]+)`", named)) - {"available"}
    assert codes == AVAILABLE.keys()


def test_the_changelog_names_the_applications() -> None:
    entry = (ROOT / "CHANGELOG.md").read_text().partition("- [The catalogue]")[2].partition("\n- ")[0]
    own = {code for code, each in AVAILABLE.items() if each.type == "Application"} - OTHER_PAGES.keys()
    assert set(re.findall(r"`([a-z0-9-]+)`", entry)) == own
