"""The namespace package, the pinned requirements, and a wheel with everything that runs."""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.e2e.source import make_source
from tests.system import HTTP, start

ROOT = Path(__file__).parents[1]
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))


FOR_INSTALLING = {"editables", "hatchling", "pip"}
"""Names in run.in that the environment of a checkout needs and an installed package does not need."""


@pytest.fixture(scope="module")
def wheel_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel from this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def wheel(wheel_path: Path) -> set[str]:
    """Return the names of the files in the wheel."""
    with ZipFile(wheel_path) as archive:
        return set(archive.namelist())


@pytest.mark.parametrize("root", ["src", "gen"])
def test_headwater_is_an_implicit_namespace(root: str) -> None:
    assert (ROOT / root / "headwater").is_dir()
    assert not (ROOT / root / "headwater" / "__init__.py").exists()


def test_written_and_generated_code_share_one_namespace() -> None:
    from headwater.base import errors
    from headwater.v1 import connections_pb2

    assert errors.__name__ == "headwater.base.errors"
    assert connections_pb2.Connection().id == 0


def test_there_are_three_locks() -> None:
    assert [path.name for path in LOCKS] == ["dev.txt", "run.txt", "specifications.txt"]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_requirement_is_pinned_and_hashed_and_no_index_is_named(lock: Path) -> None:
    requirements = lock.read_text().replace("\\\n", " ").splitlines()
    assert requirements
    for requirement in requirements:
        assert re.match(r"[a-z0-9.-]+(\[[a-z,]+\])?==[^ ]+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement
        assert "://" not in requirement
        assert "/" not in requirement


@pytest.mark.parametrize("name", ["tests/sdks/node", "examples/node"])
def test_every_npm_package_is_pinned_and_hashed_and_no_registry_is_named(name: str) -> None:
    folder = ROOT / name
    wanted = json.loads((folder / "package.json").read_text())
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    root = packages.pop("")
    for kind in ("dependencies", "devDependencies"):
        assert root.get(kind) == wanted.get(kind)
    for name, package in packages.items():
        assert re.fullmatch(r"\d+\.\d+\.\d+\S*", package["version"]), name
        assert package["integrity"].startswith("sha512-"), name
        assert "resolved" not in package, name


def pins(name: str) -> dict[str, str]:
    """Return the versions in a lock by package."""
    text = (ROOT / "requirements" / name).read_text()
    return dict(re.findall(r"^([a-z0-9.-]+)==([^ ;]+)", text, re.MULTILINE))


def test_the_locks_agree() -> None:
    assert pins("run.txt").items() <= pins("dev.txt").items()


def test_the_package_and_the_lock_name_the_same_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[\[>=<;]", requirement)[0] for requirement in project["dependencies"]}
    lines = (ROOT / "requirements" / "run.in").read_text().splitlines()
    named = {re.split(r"[\[;]", line)[0] for line in lines if not line.startswith("#")}
    assert needed == named - FOR_INSTALLING
    assert named >= FOR_INSTALLING


def test_the_lock_for_tests_has_what_the_extras_need() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    needed = {re.split(r"[\[>=<]", requirement)[0] for extra in extras.values() for requirement in extra}
    assert needed <= pins("dev.txt").keys()


def test_an_installed_wheel_serves(wheel_path: Path, tmp_path: Path) -> None:
    """Install the wheel with the dependencies that it names, in the versions of the lock."""
    environment, constraints = tmp_path / "environment", tmp_path / "constraints.txt"
    constraints.write_text("".join(f"{name}=={version}\n" for name, version in pins("run.txt").items()))
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = str(environment / "bin" / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
    subprocess.run([*pip, "--constraint", str(constraints), str(wheel_path)], check=True)
    running = start(tmp_path / "data", headwater=[environment / "bin" / "headwater"])
    try:
        source = make_source(running)
        assert source.send("track", {"userId": "u", "event": "Bought"}).status_code == 200
        assert [event["event"] for event in source.wait_for(1)] == ["Bought"]
        assert HTTP.get(f"{running.base_url}/v1/openapi.json").status_code == 200
    finally:
        status = running.stop()
    assert status == 0, running.errors


@pytest.mark.parametrize(
    "name",
    [
        "headwater/base/errors.py",
        "headwater/cli/main.py",
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
