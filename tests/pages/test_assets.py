"""What pages load and print with: it is there, of our own colours and from our own server alone, small, and made of the
packages that are meant and no others.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest
import uharfbuzz  # type: ignore[import-untyped]
from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

import build_assets
from build_assets import CannotBuild, Package
from hwc_node.line import LineState
from sync_protocol.pages import assets

FIRST_LOAD_BYTES: Final = 60_000  # of the 120 KB of the home page's first load: styles and scripts, compressed
LEAST_CONTRAST: Final = 4.5  # WCAG 2.2 AA for text
FONT_FILES: Final = [
    f"{name}-{weight}.ttf"
    for name in ("NotoSans", "NotoSansDevanagari", "NotoSansTamil", "NotoSansTelugu", "NotoSansKannada")
    for weight in ("Regular", "Bold")
]
# Colours by which the service is known whose components these are
THEIR_COLOURS: Final = re.compile(r"#(005eb8|003087|0072ce|41b6e6|00a9ce)\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def css() -> str:
    return assets.assets()["pages.css"].body.decode()


# -- what is built -----------------------------------------------------------------------------------------------------


def test_everything_is_built_from_what_is_here_now() -> None:
    assert build_assets.is_up_to_date(build_assets.STAMP, build_assets.made_of()), "make assets"
    built = json.loads(build_assets.STAMP.read_text())["files"]
    scripts = [f"sync_protocol/pages/static/{name}{end}" for name in assets.NAMES for end in ("", ".gz")]
    printed = [f"hwc_node/fonts/{name}" for name in FONT_FILES]
    assert {*scripts, *printed, "hwc_node/fonts/NotoSans-OFL.txt", "tests/browser/static/axe.min.js"} <= set(built)
    for folder in (build_assets.STATIC, build_assets.FONTS):
        assert all(file.relative_to(build_assets.ROOT).as_posix() in built for file in folder.iterdir())


def test_what_was_changed_or_lost_is_built_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp = json.loads(build_assets.STAMP.read_text())
    name = next(iter(stamp["files"]))
    for files in ({name: "0" * 64}, {"sync_protocol/pages/static/lost.css": "0" * 64}):
        monkeypatch.setattr(build_assets, "STAMP", tmp_path / "built.json")
        build_assets.STAMP.write_text(json.dumps({**stamp, "files": {**stamp["files"], **files}}))
        assert not build_assets.is_up_to_date(build_assets.STAMP, build_assets.made_of())
    build_assets.STAMP.write_text(json.dumps({**stamp, "made_of": "of something else"}))
    assert not build_assets.is_up_to_date(build_assets.STAMP, build_assets.made_of())
    build_assets.STAMP.unlink()
    assert not build_assets.is_up_to_date(build_assets.STAMP, build_assets.made_of())


def test_the_same_packages_make_the_same_bytes() -> None:
    node, _ = build_assets.programs()
    for file, body in {**build_assets.scripts_and_styles(node), **build_assets.fonts()}.items():
        assert body == file.read_bytes(), file.name


def test_what_is_sent_compressed_is_the_same_and_small() -> None:
    total = 0
    for asset in assets.assets().values():
        assert gzip.decompress(asset.zipped) == asset.body
        assert asset.zipped[4:8] == bytes(4), "the hour of the build is in it"
        total += len(asset.zipped)
    assert total <= FIRST_LOAD_BYTES


# -- styles ------------------------------------------------------------------------------------------------------------


def test_the_styles_name_no_other_host_and_load_no_font(css: str) -> None:
    assert re.findall(r'url\((?!"data:image/svg\+xml,%3Csvg)[^)]*', css) == []
    assert re.findall(r"https?:|//[a-z]|@import|@font-face", css) == []


def test_nothing_of_the_service_is_left_whose_components_these_are(css: str) -> None:
    for name, asset in assets.assets().items():
        text = asset.body.decode()
        assert re.findall(r"nhs(?!uk-).{20}|frutiger", text, re.IGNORECASE) == [], name
    assert THEIR_COLOURS.findall(css) == []


def rules(css: str) -> Iterator[tuple[str, dict[str, str]]]:
    """(selector, its declarations) of what stands under no condition."""
    depth_of_conditions, at = 0, 0
    for found in re.finditer(r"[{}]", css):
        before, at = css[at : found.start()], found.end()
        if found[0] == "}":
            if depth_of_conditions and not before:
                depth_of_conditions -= 1
            continue
        head = before.rpartition("}")[2]
        if head.startswith("@"):
            depth_of_conditions += 1
        elif not depth_of_conditions:
            body = css[at : css.index("}", at)]
            declared = dict(one.split(":", 1) for one in body.split(";") if ":" in one)
            for selector in head.split(","):
                yield selector, declared


def colours_of(css: str) -> Mapping[str, Mapping[str, str]]:
    """Selector → what its rules declare last."""
    found: dict[str, dict[str, str]] = {}
    for selector, declared in rules(css):
        found.setdefault(selector, {}).update(declared)
    return found


def luminance(colour: str) -> float:
    """Relative, as WCAG 2.2 defines it."""
    digits = {"white": "ffffff", "black": "000000"}.get(colour, colour.removeprefix("#"))
    if len(digits) == 3:
        digits = "".join(2 * digit for digit in digits)
    parts = (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    red, green, blue = (one / 12.92 if one <= 0.04045 else ((one + 0.055) / 1.055) ** 2.4 for one in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(text: str, ground: str) -> float:
    dark, light = sorted((luminance(text), luminance(ground)))
    return (light + 0.05) / (dark + 0.05)


URGENCIES: Final = ("emergency", "urgent", "routine")
# Text → ground: the selectors whose colour and whose background they are
PAIRS: Final = [
    ("body", "body"),
    ("a", "body"),
    ("a:hover", "body"),
    (".app-quiet", "body"),
    (".app-warning", "body"),
    (".app-link-button", "body"),
    (".nhsuk-hint", "body"),
    (".nhsuk-error-message", "body"),
    (".app-header", ".app-header"),
    (".app-header a:not(:focus)", ".app-nav"),
    (".app-header .app-link-button:focus", ".app-header .app-link-button:focus"),
    (".app-count", ".app-count"),
    (".nhsuk-button", ".nhsuk-button"),
    (".nhsuk-button--warning", ".nhsuk-button--warning"),
    (".nhsuk-tag", ".nhsuk-tag"),
    ("a:focus", "a:focus"),
    *((f".app-urgency--{one}", f".app-urgency--{one}") for one in URGENCIES),
    *((".app-sync-line", f".app-sync-line--{state.value}") for state in LineState),
    *((f".app-tile-map__tile--level-{level}",) * 2 for level in range(5)),
]


def test_text_is_told_from_its_ground(css: str) -> None:
    declared = colours_of(css)
    weak = {}
    for text, ground in PAIRS:
        behind = declared[ground].get("background") or declared[ground]["background-color"]
        ratio = contrast(declared[text]["color"], behind)
        if ratio < LEAST_CONTRAST:
            weak[text, ground] = ratio
    assert weak == {}
    assert contrast("#767676", "#fff") == pytest.approx(4.54, abs=0.01)  # the grey that everybody knows from WCAG
    assert contrast("#777777", "white") < LEAST_CONTRAST


# -- fonts -------------------------------------------------------------------------------------------------------------

# Script → words of a prescription, and clusters that are one sign when they are shaped and several when they are not
WORDS: Final = {
    "": ("Paracetamol 500 mg – “twice a day”, ₹25 ½ 38.2 °C µg × é ā ṭ", ()),
    "Devanagari": ("दिन में दो बार, भोजन के बाद। स्त्री ०१२३४५६७८९ ₹", ("क्ष", "ज्ञ", "त्र", "श्र")),
    "Tamil": ("ஒரு நாளைக்கு இரண்டு முறை", ("க்ஷ",)),
    "Telugu": ("రోజుకు రెండుసార్లు భోజనం తర్వాత", ("క్ష",)),
    "Kannada": ("ದಿನಕ್ಕೆ ಎರಡು ಬಾರಿ ಊಟದ ನಂತರ", ("ಕ್ಷ",)),
}


def shaped(font: Path, text: str) -> list[int]:
    """The glyphs that a text becomes; 0 is what the font does not have."""
    run = uharfbuzz.Buffer()
    run.add_str(text)
    run.guess_segment_properties()
    uharfbuzz.shape(uharfbuzz.Font(uharfbuzz.Face(font.read_bytes())), run)
    return [glyph.codepoint for glyph in run.glyph_infos]


@pytest.mark.parametrize("weight", ["Regular", "Bold"])
@pytest.mark.parametrize("script", list(WORDS))
def test_a_font_has_its_script_and_shapes_it(script: str, weight: str) -> None:
    font = build_assets.FONTS / f"NotoSans{script}-{weight}.ttf"
    words, clusters = WORDS[script]
    for word in words.split(" "):
        kept = word if not script else "".join(letter for letter in word if not letter.isascii())
        assert 0 not in shaped(font, kept), word
    for cluster in clusters:
        assert len(shaped(font, cluster)) == 1, cluster
    opened = TTFont(font)
    assert opened.flavor is None
    assert {"GSUB", "GPOS", "glyf"} <= set(opened.keys())
    assert opened["OS/2"].usWeightClass == {"Regular": 400, "Bold": 700}[weight]
    licence = (build_assets.FONTS / f"NotoSans{script}-OFL.txt").read_text(encoding="utf-8")
    assert "SIL Open Font License, Version 1.1" in licence


# -- packages ----------------------------------------------------------------------------------------------------------


def packed(members: Mapping[str, bytes], link: str = "") -> bytes:
    """A tarball as npm makes them; link: of a member that leads elsewhere."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:gz") as made:
        for name, body in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(body)
            made.addfile(member, io.BytesIO(body))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/"
            made.addfile(member)
    return file.getvalue()


SOUND: Final = packed({"package/package.json": b"{}", "package/dist/one.js": b"1"})


def package_of(tarball: bytes) -> Package:
    return Package("@made/up", "1.0.0", base64.b64encode(hashlib.sha512(tarball).digest()).decode())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    folder = tmp_path / "cache"
    for name, path in (("CACHE", folder), ("TARBALLS", folder / "tarballs"), ("MODULES", folder / "node_modules")):
        monkeypatch.setattr(build_assets, name, path)
    (folder / "tarballs").mkdir(parents=True)
    return folder


def npm_that(tmp_path: Path, does: str) -> list[str]:
    """A program in npm's place, which is not ours; ``$5`` is the folder that it packs into."""
    program = tmp_path / "npm"
    program.write_text(f"#!/bin/sh\n{does}\n")
    program.chmod(0o755)
    return [str(program)]


NO_NETWORK: Final = "echo 'npm error network' >&2; exit 1"


def test_what_is_in_the_cache_needs_no_network(cache: Path, tmp_path: Path) -> None:
    one = package_of(SOUND)
    one.tarball.write_bytes(SOUND)
    build_assets.bring([one], npm_that(tmp_path, NO_NETWORK))
    assert build_assets.part("@made/up", "dist/one.js") == b"1"


def test_a_tampered_package_is_dropped_before_anything_of_it_is_used(cache: Path, tmp_path: Path) -> None:
    one = package_of(SOUND)
    one.tarball.write_bytes(packed({"package/package.json": b"{}", "package/dist/one.js": b"2"}))
    with pytest.raises(CannotBuild, match="not the package") as caught:
        build_assets.bring([one], npm_that(tmp_path, NO_NETWORK))
    assert caught.value.code == "E_ASSETS_WRONG_PACKAGE"
    assert [file.name for file in cache.rglob("*")] == ["tarballs"]


def test_what_npm_brings_reaches_the_cache_only_when_it_is_what_was_meant(cache: Path, tmp_path: Path) -> None:
    one = package_of(SOUND)
    brought = tmp_path / "brought.tgz"
    npm = npm_that(tmp_path, f'cp {brought} "$5/{one.file_name}"')
    brought.write_bytes(SOUND + b"\0")
    with pytest.raises(CannotBuild) as caught:
        build_assets.bring([one], npm)
    assert caught.value.code == "E_ASSETS_WRONG_PACKAGE"
    assert [file.name for file in cache.rglob("*")] == ["tarballs"]
    brought.write_bytes(SOUND)
    build_assets.bring([one], npm)
    assert one.tarball.read_bytes() == SOUND


def test_without_a_network_it_says_what_to_do(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    npm_that(tmp_path, NO_NETWORK)
    node = tmp_path / "node"
    node.write_text("#!/bin/sh\necho v20.0.0\n")
    node.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(build_assets, "STAMP", cache / "built.json")
    assert build_assets.main([]) == 1
    told = capsys.readouterr().err
    assert "[E_ASSETS_NOT_FETCHED]" in told
    assert "copy the folder build/assets" in told
    assert "npm error network" in told


@pytest.mark.parametrize("name", ["package/../../outside", "/outside", "package", "package/a\\..\\b"])
def test_a_tarball_unpacks_only_below_its_folder(cache: Path, name: str) -> None:
    refused(package_of(tarball := packed({"package/one.js": b"1", name: b"outside"})), tarball)


def test_a_tarball_with_links_is_refused(cache: Path) -> None:
    refused(package_of(tarball := packed({}, link="package/elsewhere")), tarball)


def test_a_tarball_that_unpacks_to_too_much_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_assets, "MAX_UNPACKED_BYTES", 2)
    refused(package_of(SOUND), SOUND)


def test_a_tarball_that_is_too_large_is_not_read(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build_assets, "MAX_TARBALL_BYTES", len(SOUND) - 1)
    refused(package_of(SOUND), SOUND, code="E_ASSETS_WRONG_PACKAGE")


def refused(one: Package, tarball: bytes, code: str = "E_ASSETS_UNSOUND") -> None:
    one.tarball.write_bytes(tarball)
    with pytest.raises(CannotBuild) as caught:
        build_assets.bring([one], [])
    assert caught.value.code == code
    assert not build_assets.MODULES.exists()
    assert {file.name for file in build_assets.CACHE.parent.iterdir()} == {"cache"}


def test_the_list_names_exact_versions_with_hashes_and_no_host() -> None:
    packages = build_assets.listed()
    assert len(packages) == len({one.name for one in packages}) >= 10
    for one in packages:
        assert re.fullmatch(r"\d+\.\d+\.\d+", one.version)
        assert len(base64.b64decode(one.sha512, validate=True)) == hashlib.sha512().digest_size
    assert not re.search(r"https?:|\.tgz", build_assets.LIST.read_text(encoding="utf-8"))


def test_node_comes_with_the_python_packages_where_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    for called in build_assets.programs():
        said = subprocess.run([*called, "--version"], capture_output=True, text=True, check=True).stdout
        assert re.fullmatch(r"v?\d+\.\d+\.\d+\s*", said)
