"""Wear pieces of MakeHuman's wardrobe: each vertex is held by three vertices of the body, whatever its shape."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from posefactory_dagster.people import gltf
from posefactory_dagster.people.body import Body
from posefactory_dagster.people.mesh import Piece, split_at_seams, triangulate, vertex_normals
from posefactory_dagster.people.pieces import (
    CLOTHES_FILE,
    MATERIAL_FILE,
    MESH_FILE,
    PieceFacts,
    fields_of,
    kept_pieces,
)

#: Textures are made no larger than this, pixels a side.
MAX_TEXTURE = 1024
BODY_COUNT = 19158


class PieceError(ValueError):
    """A piece whose files do not fit together; the text says which."""


@dataclass(frozen=True)
class Wearable:
    """A piece of the wardrobe in memory.

    Attributes:
        held: (V, 3) body vertices, and ``shares`` (V, 3) of each; ``offsets`` (V, 3) in units of ``scales``.
        scales: for x, y, z of MakeHuman (x left, y up, z ahead): two body vertices and a divisor.
        faces: (F, 4), corners may be repeated; ``face_uvs`` (F, 4) into ``uvs`` (T, 2), v upwards.
        covers: (19158,) bool, the skin that it hides.
    """

    facts: PieceFacts
    held: np.ndarray
    shares: np.ndarray
    offsets: np.ndarray
    scales: tuple[tuple[int, int, float], ...]
    faces: np.ndarray
    face_uvs: np.ndarray
    uvs: np.ndarray
    covers: np.ndarray
    material: gltf.Material

    def fitted(self, body: Body) -> tuple[Piece, gltf.Material]:
        """The piece on a body, with its material."""
        v = body.vertices
        scale = np.array([abs(v[a, axis] - v[b, axis]) / d for axis, (a, b, d) in zip((0, 2, 1), self.scales, strict=True)])  # fmt: skip
        offset = self.offsets * scale
        moved = np.column_stack([offset[:, 0], -offset[:, 2], offset[:, 1]])
        points = np.einsum("vk,vki->vi", self.shares, v[self.held]) + moved
        dense = body.dense_weights
        shares = np.clip(self.shares, 0, None)
        shares = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-9)
        weights = np.einsum("vk,vkb->vb", shares, np.nan_to_num(dense[self.held]))
        bare = weights.sum(axis=1) < 0.5
        weights[bare, 0] = 1.0
        weights /= weights.sum(axis=1, keepdims=True)
        triangles = triangulate(self.faces)
        second = self.faces[:, 2] != self.faces[:, 3]
        corner = np.concatenate([self.face_uvs[:, :3], self.face_uvs[:, [0, 2, 3]][second]])
        uvs = self.uvs[corner] * (1, -1) + (0, 1)
        split_triangles, old, split = split_at_seams(triangles, uvs)
        normals = vertex_normals(points, triangles)[old]
        facts = self.facts
        source = f"{facts.source} by {facts.author}" if facts.author else facts.source
        name = f"piece_{facts.name}"
        return (
            Piece(name, facts.role, name, points[old], split_triangles, split, weights[old], self.covers, normals, facts.licence, source),
            self.material,
        )  # fmt: skip


def open_wardrobe(folder: Path) -> dict[str, tuple[PieceFacts, Path]]:
    """The pieces in a folder by name, each with its folder; ``read`` reads one."""
    return {facts.name: (facts, place) for facts, place in kept_pieces(folder)}


def read(facts: PieceFacts, folder: Path) -> Wearable:
    """A piece from its files.

    Raises:
        PieceError: the files do not fit together.
    """
    try:
        held, shares, offsets, scales, covers = _read_clothes((folder / CLOTHES_FILE).read_text("utf-8", "replace"))  # fmt: skip
        faces, face_uvs, uvs, count = _read_mesh((folder / MESH_FILE).read_text("utf-8", "replace"))
    except (ValueError, IndexError, KeyError) as error:
        raise PieceError(f"{facts.name}: its files are malformed ({error}); take the piece from its author again") from error  # fmt: skip
    if len(held) != count or not len(faces):
        raise PieceError(f"{facts.name}: its mesh has {count} vertices, and {len(held)} are held; take the piece from its author again")  # fmt: skip
    return Wearable(facts, held, shares, offsets, scales, faces, face_uvs, uvs, covers, _material(facts, folder))  # fmt: skip


def _read_clothes(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple, np.ndarray]:
    said = fields_of(text)
    scales = []
    for axis in "xyz":
        words = said[f"{axis}_scale"].split()
        scales.append((int(words[0]), int(words[1]), float(words[2])))
    held, shares, offsets = [], [], []
    covers = np.zeros(BODY_COUNT, bool)
    section = ""
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0][0].isalpha():  # other lines may stand between a section's name and its numbers
            section = words[0] if words[0] in ("verts", "delete_verts") else section
            words = words[1:] if words[0] == "delete_verts" else []
        if section == "verts" and len(words) in (1, 9) and words[0].lstrip("-").isdigit():
            numbers = [float(w) for w in words]
            exact = len(numbers) == 1
            held.append([int(numbers[0])] * 3 if exact else [int(n) for n in numbers[:3]])
            shares.append([1.0, 0.0, 0.0] if exact else numbers[3:6])
            offsets.append([0.0] * 3 if exact else numbers[6:])
        elif section == "delete_verts":
            for first, last in re.findall(r"(\d+)(?: - (\d+))?", " ".join(words)):
                covers[int(first) : int(last or first) + 1] = True
    index = np.array(held, int).reshape(-1, 3)
    if len(index) and not (index.min() >= 0 and index.max() < BODY_COUNT):
        raise ValueError("a vertex of the body that it names does not exist")
    return index, np.array(shares).reshape(-1, 3), np.array(offsets).reshape(-1, 3), tuple(scales), covers  # fmt: skip


def _read_mesh(text: str) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Faces, their texture coordinates and the number of vertices of an `.obj` in its own order, which importers may change."""
    faces, face_uvs, uvs, count = [], [], [], 0
    for line in text.splitlines():
        words = line.split()
        if not words:
            continue
        if words[0] == "v":
            count += 1
        elif words[0] == "vt":
            uvs.append((float(words[1]), float(words[2])))
        elif words[0] == "f":
            corners = [w.split("/") for w in words[1:5]]
            corners += corners[-1:] * (4 - len(corners))
            faces.append([int(c[0]) - 1 for c in corners])
            face_uvs.append([int(c[1]) - 1 if len(c) > 1 and c[1] else 0 for c in corners])
    table = np.array(uvs or [(0.5, 0.5)])
    index, of_uv = np.array(faces, int).reshape(-1, 4), np.array(face_uvs, int).reshape(-1, 4)
    if len(index) and not (index.min() >= 0 and index.max() < count and of_uv.max() < len(table)):
        raise ValueError("a face names a vertex that does not exist")
    return index, of_uv, table, count


def _material(facts: PieceFacts, folder: Path) -> gltf.Material:
    look = fields_of((folder / MATERIAL_FILE).read_text("utf-8", "replace"))
    shininess = float(look.get("shininess", "0.3").split()[0])
    colour: np.ndarray | tuple[int, int, int]
    if "diffuseTexture" in facts.textures:
        transparent = facts.role == "hair" or look.get("transparent", "").lower() == "true"
        colour = _image(folder / facts.textures["diffuseTexture"], "RGBA" if transparent else "RGB")
    else:
        red, green, blue = (int(255 * min(max(float(w), 0.0), 1.0)) for w in look["diffuseColor"].split()[:3])  # fmt: skip
        colour = (red, green, blue)
    normal = facts.textures.get("normalmapTexture")
    return gltf.Material(colour, None if normal is None else _image(folder / normal, "RGB"), 0.9 - 0.6 * min(max(shininess, 0.0), 1.0))  # fmt: skip


def _image(path: Path, mode: str) -> np.ndarray:
    with Image.open(path) as opened:
        image = opened.convert(mode)
        image.thumbnail((MAX_TEXTURE, MAX_TEXTURE))
        return np.asarray(image)
