"""Pieces of MakeHuman's wardrobe as files: found in a folder or a zip, checked, and kept with their licence.

A `.mhclo` says by which body vertices a piece is held (file format: MakeHuman community wiki, "File formats and extensions"); it
names an `.obj` and a `.mhmat`, and that its textures. Nothing outside the piece's own folder is read.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict

from posefactory_dagster.slugs import SlugError, safe_slug

BASE_MESH = "hm08"
#: Caps of a pack, each far above what wardrobes need.
MAX_FILES, MAX_PACK_BYTES, MAX_FILE_BYTES, MAX_TEXTURE_PIXELS = 20_000, 2 * 10**9, 200 * 10**6, 8192 * 8192  # fmt: skip
#: Names of the files of a kept piece.
CLOTHES_FILE, MESH_FILE, MATERIAL_FILE, ABOUT_FILE = "piece.mhclo", "piece.obj", "piece.mhmat", "about.json"  # fmt: skip
#: Licences that are told from a piece's own text: by words, as SPDX calls them; the first that fits.
LICENCES = (
    (r"\bCC[- ]?0\b|public domain", "CC0-1.0"),
    (r"\bCC[- ]?BY[- ]?SA\b", "CC-BY-SA-4.0"),
    (r"\bCC[- ]?BY[- ]?NC\b", "CC-BY-NC-4.0"),
    (r"\bCC[- ]?BY\b", "CC-BY-4.0"),
    (r"\bA?GPL", "AGPL-3.0-only"),
)
TEXTURES = ("diffuseTexture", "normalmapTexture")


class WardrobeError(ValueError):
    """A pack or a piece that cannot be taken in; the text names the file, the fault and the next step."""


class PieceFacts(BaseModel):
    """What is kept of a piece beside its files."""

    model_config = ConfigDict(frozen=True)

    name: str
    role: Literal["garment", "shoes", "hat", "hair"]
    licence: str
    author: str = ""
    source: str
    textures: dict[str, str] = {}


@dataclass(frozen=True)
class FoundPiece:
    """A piece in a folder: its facts, and its files by the names under which they are kept."""

    facts: PieceFacts
    files: dict[str, Path] = field(default_factory=dict)


def unpack(pack: Path, folder: Path) -> None:
    """Unpack a zip into a folder.

    Raises:
        WardrobeError: it is no zip, too large, or a name in it leads outside.
    """
    try:
        with zipfile.ZipFile(pack) as archive:
            members = archive.infolist()
            if len(members) > MAX_FILES or sum(m.file_size for m in members) > MAX_PACK_BYTES:
                raise WardrobeError(f"{pack.name}: over {MAX_FILES} files or {MAX_PACK_BYTES / 1e9:g} GB unpacked; take a smaller pack")  # fmt: skip
            for member in members:
                path = PurePosixPath(member.filename.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts or re.match(r"^[A-Za-z]:", str(path)):
                    raise WardrobeError(f"{pack.name}: {member.filename!r} leads out of the pack; do not use it")  # fmt: skip
                if member.is_dir():
                    continue
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                written = 0
                with archive.open(member) as source, target.open("wb") as out:
                    while block := source.read(1 << 20):
                        written += len(block)
                        if written > min(MAX_FILE_BYTES, member.file_size):
                            raise WardrobeError(f"{pack.name}: {member.filename!r} is larger than it says or than {MAX_FILE_BYTES / 1e6:g} MB; do not use it")  # fmt: skip
                        out.write(block)
    # zipfile raises NotImplementedError for a compression that it does not know, RuntimeError for an encrypted member.
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
        raise WardrobeError(f"{pack.name}: no zip that can be read ({error}); download it again") from error  # fmt: skip


def find_pieces(folder: Path, licence: str | None) -> tuple[list[FoundPiece], list[str]]:
    """The pieces below a folder, and what is wrong with those that cannot be used.

    Args:
        licence: what the user says of pieces that do not say it themselves.
    """
    found, faults = [], []
    for path in sorted(folder.rglob("*.mhclo")):
        try:
            found.append(_piece(path, folder, licence))
        except WardrobeError as error:
            faults.append(str(error))
        except (OSError, UnicodeDecodeError) as error:
            faults.append(f"{path.name}: cannot be read ({type(error).__name__})")
    if not found and not faults:
        faults.append(f"{folder.name}: no .mhclo in it; a pack of MakeHuman's wardrobe has one for each piece")  # fmt: skip
    return found, faults


def fields_of(text: str) -> dict[str, str]:
    """The lines ``name value`` of a `.mhclo` or `.mhmat`; comments and numbers are left out."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        words = line.strip().split(None, 1)
        if len(words) == 2 and words[0][0].isalpha():
            found.setdefault(words[0], words[1].strip())
    return found


def _piece(path: Path, pack: Path, licence: str | None) -> FoundPiece:
    text = path.read_text("utf-8", "replace")
    said = fields_of(text)
    if said.get("basemesh", BASE_MESH) != BASE_MESH:
        raise WardrobeError(f"{path.name}: made for the body mesh {said['basemesh']!r}, and only {BASE_MESH} can wear it")  # fmt: skip
    for name in ("obj_file", "material"):
        if name not in said:
            raise WardrobeError(f"{path.name}: names no {name.replace('_', ' ')}; take the piece from its author again")  # fmt: skip
    mesh = _inside(path, said["obj_file"], pack)
    material = _inside(path, said["material"], pack)
    look = fields_of(material.read_text("utf-8", "replace"))
    files = {CLOTHES_FILE: path, MESH_FILE: mesh, MATERIAL_FILE: material}
    textures = {}
    for kind in TEXTURES:
        if kind not in look:
            continue
        try:
            image = _inside(material, look[kind], pack)
        except WardrobeError:
            if kind == "diffuseTexture" and "diffuseColor" not in look:
                raise
            continue  # packs are often cut down; the colour, or no normal map, stands in
        _check_image(image)
        kept = f"{kind}{image.suffix.lower()}"
        files[kept] = image
        textures[kind] = kept
    if "diffuseTexture" not in textures and "diffuseColor" not in look:
        raise WardrobeError(f"{path.name}: neither a texture nor a colour; take the piece from its author again")  # fmt: skip
    found = next((spdx for pattern, spdx in LICENCES if re.search(pattern, text, re.IGNORECASE)), None)  # fmt: skip
    if found is None and licence is None:
        raise WardrobeError(f"{path.name}: says no licence; if you know it, say it with --licence, as CC-BY-4.0")  # fmt: skip
    try:
        name = safe_slug(path.stem)
    except SlugError as error:
        raise WardrobeError(f"{path.name}: {error}; rename it") from error
    author = re.search(r"^#?\s*(?:author:?|copyright \(c\)(?: \d{4})?)[ \t]+(.{2,80})$", text, re.IGNORECASE | re.MULTILINE)  # fmt: skip
    tags = " ".join(re.findall(r"^tag (.+)$", text, re.MULTILINE)).lower()
    facts = PieceFacts(
        name=name, role=_role(path, tags), licence=found or str(licence), author=author.group(1).strip() if author else "",
        source=path.stem, textures=textures,
    )  # fmt: skip
    return FoundPiece(facts, files)


def _role(path: Path, tags: str) -> Literal["garment", "shoes", "hat", "hair"]:
    words = f"{path.parent.parent.name} {path.parent.name} {path.stem} {tags}".lower()
    if "hair" in words:
        return "hair"
    if re.search(r"shoe|boot|sneaker|sandal", words):
        return "shoes"
    if re.search(r"\bhats?\b|fedora|cap\b|helmet", words):
        return "hat"
    return "garment"


def _inside(path: Path, name: str, pack: Path) -> Path:
    """A file that another one names, inside the pack.

    Raises:
        WardrobeError: it leads outside, or is not there.
    """
    target = (path.parent / name.replace("\\", "/")).resolve()
    if not target.is_relative_to(pack.resolve()):
        raise WardrobeError(f"{path.name}: {name!r} leads out of the pack; do not use it")
    if not target.is_file():
        raise WardrobeError(f"{path.name}: {name} is not in the pack; take the piece from its author again")  # fmt: skip
    if target.stat().st_size > MAX_FILE_BYTES:
        raise WardrobeError(f"{path.name}: {name} has over {MAX_FILE_BYTES / 1e6:g} MB; make it smaller")  # fmt: skip
    return target


def _check_image(path: Path) -> None:
    try:
        with Image.open(path) as opened:
            if opened.size[0] * opened.size[1] > MAX_TEXTURE_PIXELS:
                raise WardrobeError(f"{path.name}: over {MAX_TEXTURE_PIXELS // 10**6} million pixels; make it smaller")  # fmt: skip
            opened.verify()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, WardrobeError):
            raise
        raise WardrobeError(f"{path.name}: no image that can be read; take the piece from its author again") from error  # fmt: skip


def about(facts: PieceFacts) -> bytes:
    """The file that keeps a piece's facts."""
    return json.dumps(facts.model_dump(), indent=1).encode()


def kept_pieces(folder: Path) -> Iterator[tuple[PieceFacts, Path]]:
    """The pieces that lie in folders of a wardrobe, each with its folder."""
    for path in sorted(folder.glob(f"*/{ABOUT_FILE}")):
        yield PieceFacts.model_validate_json(path.read_bytes()), path.parent
