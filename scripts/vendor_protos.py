"""Copies the google/api protos that Headwater imports from the installed googleapis-common-protos.

The copies in .protos-vendor are not in git, because the package is their one source. buf then needs no network.
"""

import importlib.metadata
import shutil
from pathlib import Path

NEEDED = (
    "google/api/annotations.proto",
    "google/api/field_behavior.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
)


def vendor(target: Path) -> None:
    """Make `target` contain exactly the needed files."""
    package = importlib.metadata.distribution("googleapis-common-protos")
    shutil.rmtree(target, ignore_errors=True)
    for name in NEEDED:
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(package.locate_file(name)), copy)
