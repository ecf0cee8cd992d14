"""What is shipped: the namespace package, the pinned requirements, and a wheel that holds everything that runs."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of the files in a wheel built from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    with ZipFile(built) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("root", ["src", "gen"])
def test_headwater_is_an_implicit_namespace(root: str) -> None:
    assert (ROOT / root / "headwater").is_dir()
    assert not (ROOT / root / "headwater" / "__init__.py").exists()


def test_our_code_and_the_generated_code_share_one_namespace() -> None:
    from headwater.base import errors
    from headwater.v1 import connections_pb2

    assert errors.__name__ == "headwater.base.errors"
    assert connections_pb2.Connection().id == 0


def test_there_are_two_locks() -> None:
    assert [path.name for path in LOCKS] == ["dev.txt", "run.txt"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_requirement_is_pinned_and_hashed_and_no_index_is_named(lock: Path) -> None:
    requirements = lock.read_text().replace("\\\n", " ").splitlines()
    assert requirements
    for requirement in requirements:
        assert re.match(r"[a-z0-9.-]+(\[[a-z,]+\])?==[^ ]+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement
        assert "://" not in requirement
        assert "/" not in requirement


def test_every_npm_package_is_pinned_and_hashed_and_no_registry_is_named() -> None:
    folder = ROOT / "tests" / "sdks" / "node"
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert packages.pop("")["dependencies"] == wanted
    for name, package in packages.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", package["version"]), name
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def test_the_locks_agree() -> None:
    def pins(name: str) -> dict[str, str]:
        text = (ROOT / "requirements" / name).read_text()
        return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", text, re.MULTILINE))

    assert pins("run.txt").items() <= pins("dev.txt").items()


def test_the_lock_names_what_the_package_needs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[>=<]", requirement)[0] for requirement in project["dependencies"]}
    named = {line.split("[")[0] for line in (ROOT / "requirements" / "run.in").read_text().splitlines()}
    assert needed <= named


@pytest.mark.parametrize(
    "name",
    [
        "headwater/base/errors.py",
        "headwater/server/cli.py",
        "headwater/server/envoy/envoy.yaml.tmpl",
        "headwater/server/envoy/errors.lua",
        "headwater/server/envoy/head.lua",
        "headwater/server/envoy/descriptors.pb",
        "headwater/v1/__init__.py",
        "headwater/v1/connections_pb2.py",
        "headwater/v1/connections_pb2.pyi",
        "headwater/v1/connections_pb2_grpc.py",
        "headwater/v1/py.typed",
    ],
)
def test_the_wheel_holds(wheel: set[str], name: str) -> None:
    assert name in wheel


def test_the_wheel_holds_every_migration(wheel: set[str]) -> None:
    source = ROOT / "src"
    migrations = [path for path in source.rglob("*.py") if "migrations" in path.parts]
    assert migrations
    assert {path.relative_to(source).as_posix() for path in migrations} <= wheel


def test_the_wheel_holds_no_namespace_module_and_no_stray_file(wheel: set[str]) -> None:
    assert "headwater/__init__.py" not in wheel
    assert {name.split("/")[0].split("-")[0] for name in wheel} <= {"headwater", "headwater_dataclasses"}
    assert not [name for name in wheel if "__pycache__" in name]
