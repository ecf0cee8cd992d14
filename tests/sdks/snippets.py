"""The lines of docs/sdks.md that create a client of an SDK."""

import re
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "sdks.md"
SNIPPETS: Final[dict[str, str]] = dict(
    re.findall(r"<!-- tested: (\S+) -->\n```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
)
"""The lines by the name of the package."""


def snippet(package: str, key: str, address: str) -> str:
    """Return the lines for this key, and for a server at this host and port."""
    text = SNIPPETS[package]
    for written, meant in {"WRITE_KEY": key, "127.0.0.1:8080": address}.items():
        assert written in text, f"{written} is not in the lines of {package}"
        text = text.replace(written, meant)
    return text
