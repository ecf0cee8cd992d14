"""Writes an archive of the protos that needs nothing else: those of Headwater, and the files of googleapis they import.

    archive_protos.py [FOLDER]   write FOLDER/headwater-protos-VERSION.tar.gz; FOLDER is dist unless given

The same protos give the same bytes, whoever builds the archive and when.
"""

import gzip
import io
import sys
import tarfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("protos", "third_party/googleapis")


def main() -> int:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"
    folder.mkdir(parents=True, exist_ok=True)
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    name = f"headwater-protos-{version}"
    path = folder / f"{name}.tar.gz"
    path.write_bytes(archive(name))
    print(path)
    return 0


def archive(name: str) -> bytes:
    """Return the archive, whose files are below the folder `name`."""
    files = {"LICENSE": ROOT / "LICENSE"}
    for source in SOURCES:
        files |= {path.relative_to(ROOT / source).as_posix(): path for path in (ROOT / source).rglob("*.proto")}
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w", format=tarfile.USTAR_FORMAT) as output:
        for relative, path in sorted(files.items()):
            content = path.read_bytes()
            member = tarfile.TarInfo(f"{name}/{relative}")
            member.size = len(content)
            output.addfile(member, io.BytesIO(content))
    return gzip.compress(tar.getvalue(), mtime=0)


if __name__ == "__main__":
    sys.exit(main())
