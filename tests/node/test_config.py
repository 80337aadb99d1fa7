"""Settings and paths of a node: which source wins, what is refused, and who may read the home."""

from __future__ import annotations

import errno
import stat
from pathlib import Path

import pytest

from hwc_node import config
from sync_protocol.errors import OurFault


def _refused(home: Path, environ: dict[str, str] | None = None, **flags: str | float | bool) -> OurFault:
    with pytest.raises(OurFault) as caught:
        config.load(home, environ or {}, dict(flags))
    return caught.value


def test_without_any_setting_the_pages_are_local_and_the_home_is_the_platforms() -> None:
    found = config.load(None, {})
    assert (found.host, found.port, found.log_level) == ("127.0.0.1", 8090, "info")
    assert found.home.is_absolute() and found.home.name == config.APPLICATION


def test_the_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('port = 1\nlog_level = "debug"\nsync_interval_s = 60\n')
    environ = {"HWC_HOME": "/elsewhere", "HWC_PORT": "2", "HWC_LOG_LEVEL": "", "HWC_ANSWER_TIMEOUT_S": "7.5"}
    assert config.load(tmp_path, environ, {"port": 3, "host": None}).port == 3
    found = config.load(tmp_path, environ)
    assert (found.home, found.port, found.log_level) == (tmp_path.resolve(), 2, "debug")
    assert (found.sync_interval_s, found.answer_timeout_s) == (60.0, 7.5)
    assert config.load(None, {"HWC_HOME": str(tmp_path)}).port == 1


def test_everything_lies_in_the_home_and_slots_lie_beside_the_database(tmp_path: Path) -> None:
    found = config.load(tmp_path, {})
    paths = [found.database_path, found.slots_path, found.lock_path, found.sync_lock_path, found.serve_lock_path]
    assert {path.parent for path in paths} == {tmp_path.resolve()}
    assert len(set(paths)) == len(paths)
    assert (found.database_path.name, found.slots_path.name) == ("node.db", "slots.json")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "65536"),
        ("port", "-1"),
        ("port", "eighty"),
        ("log_level", "loud"),
        ("behind_tls_proxy", "perhaps"),
        ("sync_interval_s", "1"),
        ("sync_interval_s", "nan"),
        ("sync_interval_s", "1e9"),
        ("connect_timeout_s", "0"),
        ("hub_url", "hub.example.org"),
        ("hub_url", "https://someone:secret@hub.example.org"),
        ("host", "a\nb"),
    ],
)
def test_a_malformed_setting_is_named_and_not_repeated(tmp_path: Path, name: str, value: str) -> None:
    error = _refused(tmp_path, {f"HWC_{name.upper()}": value})
    assert error.code == "E_SETTING" and name in error.message and value not in error.message.split()


@pytest.mark.parametrize(
    "text",
    [b"port = ", b"\xff\xfe", b"port = 1\nport = 2", b"[" * 5000, b"a" * 70_000, b"port = " + b"9" * 5000],
    ids=["no value", "not text", "twice", "nested", "huge", "a huge number"],
)
def test_a_settings_file_that_is_none_is_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "config.toml").write_bytes(text)
    assert _refused(tmp_path).code == "E_SETTING"


def test_an_unknown_setting_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("sync_intervall_s = 60\n")
    error = _refused(tmp_path)
    assert error.code == "E_SETTING" and "'sync_interval_s'" in error.next_step


def test_a_passphrase_is_no_setting(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('passphrase = "four unrelated words here"\n')
    error = _refused(tmp_path)
    assert error.code == "E_SETTING" and "unrelated" not in error.message


def test_pages_for_the_network_need_a_tls_proxy(tmp_path: Path) -> None:
    assert _refused(tmp_path, host="0.0.0.0").code == "E_NOT_LOOPBACK"
    assert config.load(tmp_path, {}, {"host": "192.168.1.2", "behind_tls_proxy": True}).host == "192.168.1.2"
    assert config.load(tmp_path, {}, {"host": "192.168.1.2", "open_to_lan": True}).host == "192.168.1.2"
    assert config.load(tmp_path, {}, {"host": "::1"}).host == "::1"


def test_pages_for_the_wifi_are_at_every_address_and_encrypted_beside(tmp_path: Path) -> None:
    def served(**flags: str | int | bool) -> tuple[str, int]:
        found = config.load(tmp_path, {}, flags)
        return found.host, found.secure_port

    assert served() == ("127.0.0.1", 0)
    assert served(https_port=1) == ("127.0.0.1", 1)
    assert served(open_to_lan=True) == ("0.0.0.0", config.DEFAULT_HTTPS_PORT)
    assert served(open_to_lan=True, https_port=0) == ("0.0.0.0", 0)
    assert served(open_to_lan=True, host="127.0.0.1") == ("127.0.0.1", config.DEFAULT_HTTPS_PORT)
    assert served(open_to_lan=True, behind_tls_proxy=True) == ("127.0.0.1", 0)


def test_the_home_is_for_its_owner_only_even_if_it_was_open(tmp_path: Path) -> None:
    opened = tmp_path / "open"
    opened.mkdir(mode=0o777)
    for home in (opened, tmp_path / "new" / "home"):
        config.make_folders(config.load(home, {}))
        assert stat.S_IMODE(home.stat().st_mode) == 0o700


def test_a_home_that_is_a_file_is_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert _refused(tmp_path / "file").code == "E_HOME"
    with pytest.raises(OurFault) as caught:
        config.make_folders(config.NodeConfig(home=tmp_path / "file"))
    assert caught.value.code == "E_HOME"


def test_errors_of_the_disk_have_codes() -> None:
    codes = {
        number: config.storage_fault(OSError(number, "x"), "It failed").code
        for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)
    }
    assert list(codes.values()) == ["E_DISK_FULL", "E_DISK_FULL", "E_READ_ONLY", "E_READ_ONLY", "E_STORAGE"]
