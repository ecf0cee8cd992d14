"""The keys of settings: from the environment, or from a file that is created once and readable by its owner only."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from headwater.base.encryption import Keyring, UnknownKey
from headwater.server.errors import StartupError
from headwater.server.secrets import keyring
from headwater.server.settings import Settings

OLD = "the key of last year, 32 characters"
NEW = "the key of this year, 32 characters"


def _opens(ring: Keyring, secret: str) -> bool:
    try:
        return ring.open(Keyring(secret).seal(b"x", context=b""), context=b"") == b"x"
    except UnknownKey:
        return False


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    record = keyring(settings).seal(b"x", context=b"")
    path = tmp_path / "secret-key"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert len(path.read_text().strip()) >= 40
    assert keyring(settings).open(record, context=b"") == b"x"
    assert [each.name for each in tmp_path.iterdir()] == ["secret-key"]


def test_processes_that_start_together_have_the_same_key(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    with ThreadPoolExecutor(8) as threads:
        rings = list(threads.map(lambda _: keyring(settings), range(16)))
    record = rings[0].seal(b"x", context=b"")
    assert all(ring.is_present(record) for ring in rings)


def test_a_key_that_is_given_makes_no_file(tmp_path: Path) -> None:
    assert _opens(keyring(Settings(data_dir=tmp_path, secret_key=NEW)), NEW)
    assert list(tmp_path.iterdir()) == []


def test_older_keys_open_and_so_does_the_file(tmp_path: Path) -> None:
    ring = keyring(Settings(data_dir=tmp_path, old_secret_keys=(OLD,)))
    file = (tmp_path / "secret-key").read_text().strip()
    assert _opens(ring, OLD) and _opens(ring, file)
    given = keyring(Settings(data_dir=tmp_path, secret_key=NEW))
    assert _opens(given, file) and not _opens(given, OLD)
    assert given.is_present(Keyring(NEW).seal(b"", context=b""))


@pytest.mark.parametrize("content", [b"", b"too short", b"\xff" * 40])
def test_a_file_that_holds_no_key(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret-key").write_bytes(content)
    with pytest.raises(StartupError, match=r"the secret key in .*secret-key"):
        keyring(Settings(data_dir=tmp_path))


def test_none_is_made_where_none_may_be(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="HEADWATER_SECRET_KEY"):
        keyring(Settings(data_dir=tmp_path), create=False)
    assert list(tmp_path.iterdir()) == []
