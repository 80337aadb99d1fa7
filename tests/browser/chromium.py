"""The browser that the pages are tested in: any Chrome or Chromium of this machine; none is downloaded.

    python -m tests.browser.chromium      prints where it is, or what to do

``CHROME_PATH`` names one that is to be taken. A browser without its sandbox is only for root, where it has none.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final, TypedDict

NAMED: Final = "CHROME_PATH"
NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
PLACES: Final = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
PATIENCE_S: Final = 120.0
DRAWN_FOR_NOBODY: Final = ("WebUIOmniboxPopup", "WebUIOmniboxAimPopup")
"""What drops down from the address bar: two more programs for each window, which take longer than most pages."""
PLAYWRIGHTS: Final = (
    "AimEnabled",
    "AvoidCorsURLLoaderRestartOnRedirect",
    "AvoidUnnecessaryBeforeUnloadCheckSync",
    "DestroyProfileOnBrowserClose",
    "HttpsFirstBalancedModeAutoEnable",
    "HttpsUpgrades",
    "LensOverlay",
    "MediaRouter",
    "NetworkTimeServiceQuerying",
    "OptimizationHints",
    "PaintHolding",
    "PreconnectToSearch",
    "TcpPortRandomizationWin",
    "ThirdPartyStoragePartitioning",
    "msEdgeUpdateLaunchServicesPreferredVersion",
    "msForceBrowserSignIn",
)
"""What Playwright turns off by itself: a browser takes the last list that it is given, and this one comes behind."""


class NoBrowser(Exception):
    """What is missing, and the command to run."""


class Launch(TypedDict):
    """What Playwright's ``chromium.launch`` takes."""

    executable_path: str
    chromium_sandbox: bool
    args: list[str]
    timeout: float


@cache
def executable() -> str:
    """Raises NoBrowser."""
    named = os.environ.get(NAMED)
    if named:
        if not _runs(named):
            raise NoBrowser(f"{NAMED} names no Chrome or Chromium that runs: {named}")
        return named
    found = (*(shutil.which(name) for name in NAMES), *PLACES)
    for path in found:
        if path and _runs(path):
            return path
    raise NoBrowser(
        "The tests of the pages need Chrome or Chromium: apt-get install chromium fonts-noto-core"
        f" (or set {NAMED} to one that is here)"
    )


def launch(*flags: str) -> Launch:
    """How it is started. Raises NoBrowser."""
    off = f"--disable-features={','.join((*PLAYWRIGHTS, *DRAWN_FOR_NOBODY))}"
    return {
        "executable_path": executable(),
        "chromium_sandbox": os.geteuid() != 0,
        "args": [off, *flags],
        "timeout": PATIENCE_S * 1_000,
    }


def _runs(path: str) -> bool:
    """Some systems have, by that name, only a note where to get it."""
    if not Path(path).exists():
        return False
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=PATIENCE_S).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def main() -> int:
    try:
        sys.stdout.write(f"{executable()}\n")
    except NoBrowser as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
