"""What is installed for good is a wheel: it holds every file of the packages, and both programs work from it alone.

Built and installed without a network, beside the dependencies that are here already. (Its extras, ``node`` and ``hub``,
name all that each package imports: `tests/test_house.py` holds that.)
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from sync_protocol.pages import assets

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = ("sync_protocol", "hwc_node", "hub_server")
BUILT_FROM: Final = ("pyproject.toml", "README.md", *PACKAGES)
NOT_SHIPPED: Final = ("__pycache__", "source")  # what the pages' assets are built from
PIP: Final = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")
WITHOUT_NETWORK: Final = ("--no-index", "--no-deps")
PATIENCE_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Installed:
    """A folder that holds the wheel's content and programs, and nothing of this source tree."""

    wheel: Path
    place: Path

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        bare = {name: value for name, value in os.environ.items() if not name.startswith(("HWC_", "HUB_"))}
        own = {"PYTHONPATH": str(self.place), "HWC_HOME": str(home / "node"), "HUB_HOME": str(home / "hub")}
        return bare | own | more

    def call(self, environment: dict[str, str], *words: str, given: str = "") -> subprocess.CompletedProcess[str]:
        """One of the wheel's programs, run to its end."""
        return subprocess.run(
            [str(self.place / "bin" / words[0]), *words[1:]],
            env=environment,
            cwd=self.place,
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )

    def run(self, environment: dict[str, str], *words: str, given: str = "") -> str:
        """What it printed; it ended with 0."""
        ended = self.call(environment, *words, given=given)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """Built from a copy: setuptools leaves its own folder where it builds, and takes what an older build left there."""
    source = tmp_path_factory.mktemp("source")
    for name in BUILT_FROM:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns(*NOT_SHIPPED))
        else:
            shutil.copy(ROOT / name, source / name)
    wheels, place = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    build = (*PIP, "wheel", *WITHOUT_NETWORK, "--no-build-isolation", "--wheel-dir", str(wheels), str(source))
    subprocess.run(build, check=True, timeout=PATIENCE_S)
    (wheel,) = wheels.glob("*.whl")
    subprocess.run(
        (*PIP, "install", *WITHOUT_NETWORK, "--target", str(place), str(wheel)), check=True, timeout=PATIENCE_S
    )
    return Installed(wheel, place)


def shipped() -> set[str]:
    """Every file of the packages."""
    found = (file for package in PACKAGES for file in (ROOT / package).rglob("*") if file.is_file())
    return {
        file.relative_to(ROOT).as_posix() for file in found if not set(NOT_SHIPPED) & set(file.relative_to(ROOT).parts)
    }


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as opened:
        held = {name for name in opened.namelist() if ".dist-info/" not in name}
    assert held == shipped()
    assert {"sync_protocol/PROTOCOL.md", "sync_protocol/dictionaries/1.zdict"} < held
    assert {f"sync_protocol/pages/static/{name}{end}" for name in assets.NAMES for end in ("", ".gz")} < held
    assert {"hwc_node/fonts/NotoSansDevanagari-Regular.ttf", "hwc_node/fonts/NotoSansDevanagari-OFL.txt"} < held


def test_the_installed_programs_are_those_of_the_wheel(installed: Installed, tmp_path: Path) -> None:
    environment = installed.environment(tmp_path)
    told = subprocess.run(
        [sys.executable, "-c", "import hwc_node as n, hub_server as h, sync_protocol as p; print(n, h, p, sep='\\n')"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert len(told) == 3
    assert all(str(installed.place) in one for one in told)
    assert "Examples:" in installed.run(environment, "hub", "--help")
    assert "Examples:" in installed.run(environment, "hwc", "--help")
    assert "referral" in json.loads(installed.run(environment, "hwc", "schema", "--json"))["kinds"]
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def served(installed: Installed, database_url: str, hub_folder: Path) -> Iterator[dict[str, str]]:
    """The environment of a hub of the wheel that serves; stopped afterwards."""
    environment = installed.environment(hub_folder, HUB_DATABASE_URL=database_url)
    program = str(installed.place / "bin" / "hub")
    with (hub_folder / "hub.log").open("wb") as log:
        hub = subprocess.Popen(
            [program, "serve", "--port", "0", "--json"], env=environment, stdout=subprocess.PIPE, stderr=log
        )
    try:
        assert hub.stdout is not None
        line = hub.stdout.readline()
        assert line, (hub_folder / "hub.log").read_text()
        told: dict[str, Any] = json.loads(line)
        assert told["url"].startswith("http://127.0.0.1:")
        yield environment
    finally:
        hub.send_signal(signal.SIGTERM)
        assert hub.wait(PATIENCE_S) == 0
        assert hub.stdout is not None
        hub.stdout.close()


def test_the_wheel_alone_enrols_imports_syncs_and_exports(installed: Installed, served: dict[str, str]) -> None:
    installed.run(served, "hub", "facility", "add", "HWC000001", "HWC Rampur")
    code = json.loads(installed.run(served, "hub", "enrol", "HWC000001", "--json"))["code"]
    environment = served | {"HWC_PASSPHRASE": "four words make sense", "HWC_PERSON_NAME": "Asha Devi"}
    installed.run(environment, "hwc", "enrol", code)
    line = json.dumps({"kind": "patient", "fields": {"name": "Sita", "village": "Rampur"}})
    assert '"created"' in installed.run(environment, "hwc", "import", "-", given=line + "\n")
    done = json.loads(installed.run(environment, "hwc", "sync", "--json"))
    assert done["sent_changes"] >= 2  # the patient, and the person who enrolled
    assert done["pending_changes"] == 0
    (kept,) = installed.run(environment, "hwc", "export", "--kind", "patient").splitlines()
    assert json.loads(kept)["sync"] == "admitted"
    assert "Sita" in installed.run(environment, "hub", "export")


@pytest.mark.parametrize(("program", "extra"), [("hwc", "[node]"), ("hub", "[hub]")])
def test_a_program_without_its_extra_says_which_one_it_needs(
    installed: Installed, program: str, extra: str, tmp_path: Path
) -> None:
    """As where only the other one's libraries are installed; here, without ``site``, none are."""
    ended = subprocess.run(
        [sys.executable, "-S", str(installed.place / "bin" / program), "--help"],
        env=installed.environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert "E_NOT_INSTALLED" in ended.stderr
    assert extra in ended.stderr
    assert len(ended.stderr.splitlines()) == 2
