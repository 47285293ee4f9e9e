"""Rays that pass what is transparent: where a material lets light through, nothing is hidden behind it."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import mathutils
import numpy as np

#: Less is passed; the mask has the same limit.
OPAQUE = 0.5
#: Steps beyond a passed surface, metres.
STEP_M = 1e-4
MAX_PASSED = 64


@dataclass(frozen=True)
class Hit:
    """A surface on a ray: the name of its object, the polygon, and the distance from the ray's start in metres."""

    object: str
    polygon: int
    distance: float


@dataclass(frozen=True)
class _Alpha:
    """A material's alpha: one value, or an image (h, w) with its bottom row first, as textures lie."""

    value: float
    image: np.ndarray | None


class Opacity:
    """Knows of each material of some meshes how opaque it is, and where."""

    def __init__(self, meshes: list[bpy.types.Object]) -> None:
        images: dict[str, np.ndarray] = {}
        self._alpha: dict[str, list[_Alpha | None]] = {}
        for mesh in meshes:
            alphas = [_alpha_of(s.material, images) for s in mesh.material_slots]
            if any(a is not None for a in alphas):
                self._alpha[mesh.name] = alphas

    def first_hit(
        self,
        scene: bpy.types.Scene,
        depsgraph: bpy.types.Depsgraph,
        start: np.ndarray,
        direction: np.ndarray,
    ) -> Hit | None:
        """The first surface on a ray that is opaque where the ray meets it; None if there is none."""
        origin, towards = mathutils.Vector(start), mathutils.Vector(direction)
        here = origin
        for _ in range(MAX_PASSED):
            found, location, _, polygon, obj, _ = scene.ray_cast(depsgraph, here, towards)
            if not found:
                return None
            if obj.name not in self._alpha or self._opaque(depsgraph, obj, polygon, location):
                return Hit(obj.name, polygon, (location - origin).length)
            here = location + towards * STEP_M
        return None

    def _opaque(
        self,
        depsgraph: bpy.types.Depsgraph,
        obj: bpy.types.Object,
        polygon: int,
        location: mathutils.Vector,
    ) -> bool:
        mesh = obj.data
        face = mesh.polygons[polygon]
        alphas = self._alpha[obj.name]
        alpha = alphas[face.material_index] if face.material_index < len(alphas) else None
        if alpha is None:
            return True
        if alpha.image is None or not mesh.uv_layers.active:
            return alpha.value >= OPAQUE
        posed = obj.evaluated_get(depsgraph)
        corners = [posed.matrix_world @ posed.data.vertices[v].co for v in face.vertices]
        weights = np.array(mathutils.interpolate.poly_3d_calc(corners, location))
        uvs = np.array([mesh.uv_layers.active.data[i].uv for i in face.loop_indices])
        u, v = weights @ uvs % 1.0  # textures repeat
        height, width = alpha.image.shape
        return bool(alpha.image[int(v * height) % height, int(u * width) % width] >= OPAQUE)


def _alpha_of(material: bpy.types.Material | None, images: dict[str, np.ndarray]) -> _Alpha | None:
    """How transparent a material is; None for one that is opaque everywhere."""
    if material is None or material.node_tree is None:
        return None
    shader = next((n for n in material.node_tree.nodes if n.type == "BSDF_PRINCIPLED"), None)
    if shader is None:
        return None
    socket = shader.inputs["Alpha"]
    if not socket.links:
        value = float(socket.default_value)
        return None if value >= OPAQUE else _Alpha(value, None)
    link = socket.links[0]
    if link.from_node.type != "TEX_IMAGE" or link.from_node.image is None:
        return None
    image = link.from_node.image
    name = f"{image.name} {link.from_socket.name}"
    if name not in images:
        images[name] = _channel(image, alpha=link.from_socket.name == "Alpha")
    return _Alpha(1.0, images[name]) if (images[name] < OPAQUE).any() else None


def _channel(image: bpy.types.Image, alpha: bool) -> np.ndarray:
    """The alpha of an image, or its brightness, as (h, w) float16 with the bottom row first; ones if it has no pixels."""
    width, height = image.size
    if not width * height:
        return np.ones((1, 1), np.float16)
    pixels = np.empty(width * height * image.channels, np.float32)
    image.pixels.foreach_get(pixels)
    pixels = pixels.reshape(height, width, image.channels)
    if alpha:
        return (
            pixels[..., 3].astype(np.float16)
            if image.channels == 4
            else np.ones((1, 1), np.float16)
        )
    return pixels[..., :3].mean(axis=-1).astype(np.float16)
