"""The blocks of docs/sdks.md: the installation of an SDK, the lines that create its client, and the example call."""

import re
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "sdks.md"
_TEXT: Final = PAGE.read_text()
SNIPPETS: Final[dict[str, str]] = dict(re.findall(r"<!-- tested: (\S+) -->\n```\w+\n(.*?)```", _TEXT, re.DOTALL))
"""The blocks by the name of the package."""
INSTALLATIONS: Final[dict[str, str]] = dict(re.findall(r"<!-- install: (\S+) -->\n```\w+\n(.*?)```", _TEXT, re.DOTALL))
"""The blocks that install a package, by its name."""


def program(package: str, key: str, address: str) -> str:
    """Return the whole block for this key, and for a server at this host and port."""
    text = SNIPPETS[package]
    for written, meant in {"WRITE_KEY": key, "127.0.0.1:8080": address}.items():
        assert written in text, f"{written} is not in the lines of {package}"
        text = text.replace(written, meant)
    return text


def setup(package: str, key: str, address: str) -> str:
    """Return the lines that create the client: all but the last paragraph, which has the example call."""
    return program(package, key, address).rpartition("\n\n")[0] + "\n"
