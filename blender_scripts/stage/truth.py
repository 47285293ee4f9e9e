"""The exact truth of an image, from the scene that made it.

Every landmark is tied to the rig in the rest pose once, then read off the posed character: a bone's
head, a point of a triangle, or a point interpolated between joints. Whether the camera sees it is
decided by the body part that a ray from the camera meets first, not by depth: joints lie inside limbs.
"""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import mathutils
import numpy as np
from mathutils.bvhtree import BVHTree

from blender_scripts.contract import LANDMARKS
from blender_scripts.stage.camera import Pinhole
from blender_scripts.stage.character import Character
from blender_scripts.stage.errors import InputError

OUT_OF_FRAME, OCCLUDED, VISIBLE = 0, 1, 2


@dataclass(frozen=True)
class Anchor:
    """How one landmark hangs on the character.

    ``bone``: the head of ``bones[0]``. ``surface``: ``weights`` over ``vertices``.
    ``interpolated``: ``bones[1] + weights[0] * (bones[1] - bones[0])``.
    ``parts`` are the armature's bones whose surface counts as the landmark's own body part.
    """

    origin: str
    parts: frozenset[str]
    bones: tuple[str, ...] = ()
    vertices: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()


def anchor_landmarks(character: Character) -> list[Anchor]:
    """Tie the 33 landmarks to the character, in MediaPipe's order; leaves it in the rest pose."""
    character.rest()
    vertices = character.vertices()
    rig_map = character.rig.map
    face = _face_anchors(character, vertices)
    anchors = []
    for name in LANDMARKS:
        if name in face:
            anchors.append(face[name])
            continue
        parts = frozenset(character.rig.matching(rig_map["parts"][name]))
        if name in rig_map["feet"]:
            anchors.append(_foot_anchor(character, vertices, name, parts))
            continue
        bone = next((b for b in rig_map["bones"][name] if character.rig.has(b)), None)
        if bone is not None:
            anchors.append(Anchor("bone", parts, bones=(bone,)))
        else:
            near, far, factor = rig_map["fingers_missing"][name]
            anchors.append(Anchor("interpolated", parts, bones=(near, far), weights=(factor,)))
    return anchors


def locate(character: Character, anchors: list[Anchor], vertices: np.ndarray) -> np.ndarray:
    """Where the landmarks are now: (33, 3), world frame, metres.

    ``vertices`` is ``character.vertices()`` in the same pose.
    """
    points = np.empty((len(anchors), 3))
    for i, anchor in enumerate(anchors):
        if anchor.origin == "surface":
            points[i] = np.asarray(anchor.weights) @ vertices[list(anchor.vertices)]
        elif anchor.origin == "bone":
            points[i] = character.joint(anchor.bones[0])
        else:
            near, far = (character.joint(b) for b in anchor.bones)
            points[i] = far + anchor.weights[0] * (far - near)
    return points


def visibility(
    character: Character, anchors: list[Anchor], points: np.ndarray, camera: Pinhole
) -> np.ndarray:
    """0 outside the frame, 2 if the first surface on the ray is the landmark's own part, else 1; (33,).

    A ray that passes the character by counts as visible: nothing is in front of the landmark.
    """
    depsgraph = bpy.context.evaluated_depsgraph_get()
    scene = bpy.context.scene
    pixels = camera.project(points)
    depths = camera.to_camera(points)[:, 2]
    origin = mathutils.Vector(camera.position)
    bone_names = character.surface.bone_names
    result = np.empty(len(points), np.uint8)
    for i, anchor in enumerate(anchors):
        x, y = pixels[i]
        if depths[i] <= 0 or not (0 <= x < camera.width and 0 <= y < camera.height):
            result[i] = OUT_OF_FRAME
            continue
        towards = mathutils.Vector(points[i]) - origin
        hit, _, _, polygon, obj, _ = scene.ray_cast(depsgraph, origin, towards.normalized())
        if not hit:
            result[i] = VISIBLE
            continue
        bone = character.surface.polygon_bone[obj.name][polygon]
        own = bone >= 0 and bone_names[bone] in anchor.parts
        result[i] = VISIBLE if own else OCCLUDED
    return result


def mask_box(mask: np.ndarray) -> tuple[np.ndarray, int]:
    """Box (x, y, width, height) in pixels and area in pixels of a (H, W) bool mask; zeros if empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return np.zeros(4), 0
    x, y = columns[0], rows[0]
    return (
        np.array([x, y, columns[-1] - x + 1, rows[-1] - y + 1], np.float64),
        int(mask.sum()),
    )


def _owned(character: Character, bones: set[str]) -> np.ndarray:
    """Indices of the vertices whose dominant bone is one of ``bones``."""
    wanted = [i for i, n in enumerate(character.surface.bone_names) if n in bones]
    return np.flatnonzero(np.isin(character.surface.vertex_bone, wanted))


def _face_anchors(character: Character, vertices: np.ndarray) -> dict[str, Anchor]:
    rig_map = character.rig.map
    parts = frozenset(character.rig.matching(rig_map["parts"]["face"]))
    owned = _owned(character, set(parts))
    if len(owned) < 20:
        raise InputError(
            f"{character.name}: no surface hangs on the head bone; weight the head to it"
        )
    front = character.rest_facing
    up = np.array((0.0, 0.0, 1.0))
    left = np.cross(up, front)
    head = vertices[owned]
    # Midline from the hips, as hair or a hat may make the head lopsided.
    middle = float(character.joint(rig_map["head"]) @ left)
    depth, side, height = head @ front, head @ left - middle, head @ up
    top = float(height.max())
    half_way = (depth.min() + depth.max()) / 2
    chin = float(height[depth > half_way].min())
    face_band = (height > chin + 0.3 * (top - chin)) & (height < chin + 0.7 * (top - chin))
    half_width = (
        float(np.abs(side[face_band]).max()) if face_band.any() else float(np.abs(side).max())
    )

    in_head = np.zeros(len(vertices), bool)
    in_head[owned] = True
    triangles = character.surface.triangles
    triangles = triangles[in_head[triangles].all(axis=1)]
    tree = BVHTree.FromPolygons(vertices.tolist(), triangles.tolist())
    centre = float(np.median(depth))
    anchors = {}
    for name, where in rig_map["face"].items():
        if name == "about":
            continue
        eye = {"left_eye": "LeftEye", "right_eye": "RightEye"}.get(name)
        if eye and character.rig.has(eye):
            anchors[name] = Anchor("bone", parts, bones=(eye,))
            continue
        level = chin + where["height"] * (top - chin)
        if where["from"] == "front":
            start = (middle + where["lateral"] * half_width) * left + (depth.max() + 1.0) * front
            direction = -front
        else:
            sign = 1.0 if where["from"] == "left" else -1.0
            start = (middle + sign * (half_width + 1.0)) * left + centre * front
            direction = -sign * left
        start = start + level * up
        hit, _, index, _ = tree.ray_cast(mathutils.Vector(start), mathutils.Vector(direction))
        if hit is None:
            hit, _, index, _ = tree.find_nearest(mathutils.Vector(start + direction))
        corners = triangles[index]
        weights = _barycentric(np.array(hit), vertices[corners])
        anchors[name] = Anchor(
            "surface",
            parts,
            vertices=tuple(int(c) for c in corners),
            weights=tuple(float(w) for w in weights),
        )
    return anchors


def _foot_anchor(
    character: Character, vertices: np.ndarray, name: str, parts: frozenset[str]
) -> Anchor:
    where = character.rig.map["feet"][name]
    owned = _owned(character, character.rig.matching(where["bones"]))
    if not len(owned):
        return Anchor("interpolated", parts, bones=(where["along"][0],) * 2, weights=(0.0,))
    ankle, toe = where["along"]
    along = character.rest_facing
    if character.rig.has(toe):
        direction = (character.joint(toe) - character.joint(ankle)) * (1.0, 1.0, 0.0)
        if np.linalg.norm(direction) > 1e-6:
            along = direction / np.linalg.norm(direction)
    foot = vertices[owned]
    low = foot[:, 2] < foot[:, 2].min() + 0.5 * np.ptp(foot[:, 2])
    reach = foot @ along * (1.0 if where["end"] == "front" else -1.0)
    best = owned[np.where(low, reach, -np.inf).argmax()]
    return Anchor("surface", parts, vertices=(int(best),), weights=(1.0,))


def _barycentric(point: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Weights (3,) of ``corners`` (3, 3) that give ``point``."""
    a, b = corners[1] - corners[0], corners[2] - corners[0]
    solution, *_ = np.linalg.lstsq(np.stack([a, b], axis=1), point - corners[0], rcond=None)
    return np.array([1 - solution.sum(), *solution])
