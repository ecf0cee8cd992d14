"""The context of a connection: the files of the server that its workspace may reach."""

from pathlib import Path

import pytest

from headwater.connectors.environment import ConnectorEnvironment

ROOT = Path("/srv/files")


@pytest.mark.parametrize(
    ("root", "is_shared", "workspace", "reached"),
    [
        (None, False, 17, None),
        (None, True, 17, None),
        (ROOT, False, 17, ROOT / "17"),
        (ROOT, False, 18, ROOT / "18"),
        (ROOT, False, None, None),
        (ROOT, True, 17, ROOT),
        (ROOT, True, None, ROOT),
    ],
)
async def test_a_workspace_reaches_its_own_files(
    root: Path | None, is_shared: bool, workspace: int | None, reached: Path | None
) -> None:
    environment = ConnectorEnvironment(filesystem_root=root, filesystem_is_shared=is_shared)
    async with environment.context("filesystem", 5, None, workspace=workspace) as context:
        assert context.filesystem_root == reached
        named = "HEADWATER_FILESYSTEM_ROOT" if is_shared else f"HEADWATER_FILESYSTEM_ROOT/{workspace}"
        assert context.filesystem_folder == named or reached is None


@pytest.mark.parametrize(
    ("folder", "workspace", "expected"),
    [(None, 17, None), (ROOT, 17, ROOT / "17"), (ROOT, 18, ROOT / "18"), (ROOT, None, None)],
)
async def test_a_workspace_has_its_own_applications(
    folder: Path | None, workspace: int | None, expected: Path | None
) -> None:
    async with ConnectorEnvironment(data_folder=folder).context("dummy", 5, None, workspace=workspace) as context:
        assert context.data_folder == expected
