"""The hub's settings: who wins, what is refused, and that no secret is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub_server.config import DEFAULT_PORT, HubConfig, load, make_folders
from sync_protocol.errors import OurFault

SECRET = "s3cr3t-of-the-hub"


def write_settings(home: Path, text: str, mode: int = 0o600) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.toml").write_text(text, encoding="utf-8")
    (home / "config.toml").chmod(mode)


def refused(home: Path, environ: dict[str, str], flags: dict[str, str | int | bool | Path | None]) -> OurFault:
    with pytest.raises(OurFault) as caught:
        load(home, environ, flags)
    return caught.value


def test_defaults_need_no_file_and_create_nothing(tmp_path: Path) -> None:
    config = load(tmp_path / "home", {})
    assert config == HubConfig(home=tmp_path / "home")
    assert (config.host, config.port, config.database_url, config.behind_tls_proxy) == (
        "127.0.0.1",
        DEFAULT_PORT,
        None,
        False,
    )
    assert config.url == f"http://127.0.0.1:{DEFAULT_PORT}"
    assert not config.home.exists()


def test_flag_wins_over_environment_over_file(tmp_path: Path) -> None:
    write_settings(tmp_path, "port = 1001\nlog_level = 'debug'\nenvironment = 'from-file'\npg_folder = 'pg'\n")
    environ = {"HUB_PORT": "1002", "HUB_LOG_LEVEL": "warning", "HUB_HOST": "", "UNRELATED": "x"}
    config = load(tmp_path, environ, {"port": 1003, "log_level": None})
    assert (config.port, config.log_level, config.environment) == (1003, "warning", "from-file")
    assert config.host == "127.0.0.1"  # an empty variable is none
    assert config.pg_folder == tmp_path / "pg"  # relative to the home, not to where the command was typed


def test_home_is_flag_then_environment_then_the_platforms_place(tmp_path: Path) -> None:
    environ = {"HUB_HOME": str(tmp_path / "named")}
    assert load(tmp_path / "flag", environ).home == tmp_path / "flag"
    assert load(None, environ).home == tmp_path / "named"
    assert load(None, {}).home.name == "health-sync-hub"


def test_one_home_has_one_name(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert load(tmp_path / "link", {}).home == tmp_path / "real"


@pytest.mark.parametrize("spelling", ["postgres", "postgresql", "postgresql+psycopg"])
def test_database_url_has_one_spelling_and_is_not_shown(tmp_path: Path, spelling: str) -> None:
    config = load(tmp_path, {"HUB_DATABASE_URL": f"{spelling}://hub:{SECRET}@db/hub"})
    assert config.database_url == f"postgresql://hub:{SECRET}@db/hub"
    assert SECRET not in repr(config)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("HUB_PORT", "65536"),
        ("HUB_PORT", "-1"),
        ("HUB_PORT", "9" * 5000),
        ("HUB_BEHIND_TLS_PROXY", "perhaps"),
        ("HUB_LOG_LEVEL", "loud"),
        ("HUB_ENVIRONMENT", "Production!"),
        ("HUB_DATABASE_URL", f"mysql://hub:{SECRET}@db/hub"),
        ("HUB_DATABASE_URL", SECRET),
        ("HUB_PUBLIC_URL", "hub-without-a-scheme"),
        ("HUB_PUBLIC_URL", f"https://hub:{SECRET}@example.org"),
        ("HUB_PUBLIC_URL", "https://example.org:99999"),
        ("HUB_HOST", "two\nlines"),
        ("HUB_PG_BIN", "nul\0l"),
    ],
)
def test_malformed_settings_are_refused_without_repeating_them(tmp_path: Path, variable: str, value: str) -> None:
    error = refused(tmp_path, {variable: value}, {})
    assert error.code == "E_SETTING"
    assert variable.removeprefix("HUB_").lower() in error.message
    assert value not in f"{error.message}{error.next_step}{error.__cause__}"


@pytest.mark.parametrize(
    "text",
    ["port = ", "port = true", "port = 99999", f"port = {'9' * 5000}", "port = 0x" + "f" * 5000, "x = " + "[" * 5000],
)
def test_a_file_that_is_no_settings_is_refused(tmp_path: Path, text: str) -> None:
    write_settings(tmp_path, text)
    assert refused(tmp_path, {}, {}).code == "E_SETTING"


def test_an_oversized_or_unreadable_file_is_refused(tmp_path: Path) -> None:
    write_settings(tmp_path, "#" * 70_000)
    assert refused(tmp_path, {}, {}).code == "E_SETTING"
    (tmp_path / "config.toml").unlink()
    (tmp_path / "config.toml").mkdir()
    assert refused(tmp_path, {}, {}).code == "E_SETTING"


def test_unknown_settings_are_refused_with_the_nearest_name(tmp_path: Path) -> None:
    write_settings(tmp_path, "prot = 1\n")
    error = refused(tmp_path, {}, {})
    assert (error.code, error.next_step) == ("E_SETTING", "Did you mean 'port'?")
    (tmp_path / "config.toml").unlink()
    assert refused(tmp_path, {}, {"nonsense": 1}).code == "E_SETTING"


def test_a_file_with_a_database_url_must_be_private(tmp_path: Path) -> None:
    text = f"database_url = 'postgresql://hub:{SECRET}@db/hub'\n"
    write_settings(tmp_path, text, mode=0o644)
    error = refused(tmp_path, {}, {})
    assert error.code == "E_SETTING" and SECRET not in error.message
    write_settings(tmp_path, text)
    assert load(tmp_path, {}).database_url is not None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "hub.example.org", "127.evil.example"])
def test_only_loopback_unless_a_tls_proxy_stands_in_front(tmp_path: Path, host: str) -> None:
    assert refused(tmp_path, {}, {"host": host}).code == "E_NOT_LOOPBACK"
    assert load(tmp_path, {"HUB_BEHIND_TLS_PROXY": "yes"}, {"host": host}).host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_loopback_is_allowed(tmp_path: Path, host: str) -> None:
    assert load(tmp_path, {}, {"host": host}).host == host


def test_the_address_told_to_nodes(tmp_path: Path) -> None:
    assert load(tmp_path, {"HUB_PUBLIC_URL": "https://hub.example.org/"}).url == "https://hub.example.org"
    assert load(tmp_path, {}, {"host": "::1", "port": 7}).url == "http://[::1]:7"


def test_folders_with_secrets_are_private(tmp_path: Path) -> None:
    config = load(tmp_path / "deep" / "home", {})
    make_folders(config)
    config.keys_folder.chmod(0o755)
    make_folders(config)
    for folder in (config.home, config.keys_folder, config.blobs_folder, config.locks_folder):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_a_home_that_cannot_be_made_is_a_coded_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OurFault) as caught:
        make_folders(load(tmp_path / "file" / "home", {}))
    assert caught.value.code == "E_HOME"
