"""Generates everything from protos/: Python code and the OpenAPI document in gen/, and Envoy's descriptor set.

    generate.py                  lint, breaking, generate
    generate.py --lint           lint, breaking
    generate.py --check          generate elsewhere, fail if the committed files differ
    generate.py --move-baseline  accept the present protos as the baseline of later checks

It uses the tools of the environment whose Python runs it, and no network.
"""

import argparse
import filecmp
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BASELINE = Path("protos/baseline.binpb")
GENERATED = Path("gen")
DESCRIPTORS = Path("envoy/descriptors.pb")

PACKAGES = {
    "headwater/v1": "Messages, clients and servicers of the typed API, generated from protos/headwater/v1.",
    "headwater/options/v1": "Options of fields, methods and error reasons, generated from protos/headwater/options/v1.",
    "headwater/rest/v1": "Messages and servicers of REST calls with raw JSON, generated from protos/headwater/rest/v1.",
}
"""The packages of generated code, with their docstrings."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    action = parser.add_mutually_exclusive_group()
    for name in ("--lint", "--check", "--move-baseline"):
        action.add_argument(name, action="store_true")
    wanted = parser.parse_args()
    try:
        if wanted.check:
            return check()
        if wanted.move_baseline:
            buf("build", "protos", "--output", str(BASELINE), "--exclude-source-info")
            return 0
        lint()
        if not wanted.lint:
            replace()
    except subprocess.CalledProcessError as error:
        return int(error.returncode)
    return 0


def lint() -> None:
    """Check the style of the protos, and that no change breaks a client of the baseline, on the wire or in JSON."""
    buf("format", "protos", "--diff", "--exit-code")
    buf("lint")
    buf("breaking", "protos", "--against", str(BASELINE))


def generate(target: Path) -> None:
    """Write the generated files below `target`."""
    buf("generate", "--output", str(target))
    # `headwater` is a namespace over src/ and gen/ and must stay without an __init__.py; its packages are typed.
    for package, docstring in PACKAGES.items():
        (target / GENERATED / package / "__init__.py").write_text(f'"""{docstring}"""\n')
        (target / GENERATED / package / "py.typed").touch()
    (target / DESCRIPTORS).parent.mkdir(parents=True, exist_ok=True)
    options = ("--as-file-descriptor-set", "--exclude-source-info", "--output", str(target / DESCRIPTORS))
    buf("build", *options)


def replace() -> None:
    """Replace the committed files by generated ones, once all of them are complete."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        for name in drifted(fresh):
            if (fresh / name).is_file():
                (ROOT / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(fresh / name, ROOT / name)
            else:
                (ROOT / name).unlink()


def check() -> int:
    """Compare the committed files with generated ones, without changing them."""
    with tempfile.TemporaryDirectory() as folder:
        fresh = Path(folder)
        generate(fresh)
        names = drifted(fresh)
    for name in names:
        print(f"{name} differs from protos/: run scripts/generate.py and commit the result", file=sys.stderr)
    return 1 if names else 0


def drifted(fresh: Path) -> list[Path]:
    """Return the files that differ between the checkout and `fresh`, or exist in one of them only."""
    names = files(fresh) | files(ROOT / GENERATED, ROOT) | {DESCRIPTORS}
    return [name for name in sorted(names) if not same(ROOT / name, fresh / name)]


def files(folder: Path, root: Path | None = None) -> set[Path]:
    """Return the files below `folder` except compiled Python, relative to `root` (by default the folder itself)."""
    found = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root or folder) for path in found}


def same(one: Path, other: Path) -> bool:
    """Return whether both files exist and have the same bytes."""
    return one.is_file() and other.is_file() and filecmp.cmp(one, other, shallow=False)


def buf(*arguments: str) -> None:
    """Run buf with the environment's plugins first in PATH."""
    tools = Path(sys.executable).parent
    environment = os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ.get('PATH', '')}"}
    subprocess.run([tools / "buf", *arguments], cwd=ROOT, env=environment, check=True)


if __name__ == "__main__":
    sys.exit(main())
