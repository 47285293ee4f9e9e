"""The exact truth of an image, from the scene that made it.

Every landmark is tied to the rig in the rest pose once, then read off the posed character: a bone's head, a point of the
surface, or a point interpolated between joints. Whether it counts as visible is what an annotator would say who looks at
the picture: is the place where it is in sight? A joint lies inside its limb, so the first surface on the ray may lie before
it, by no more than a tolerance (``contract.VISIBLE_WITHIN_M``); a point of the surface must also be on a side that the
camera sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import bpy
import numpy as np

from blender_scripts.contract import (
    CLOTHING_HIDES_BEYOND_M,
    CONTACT_WITHIN_M,
    FOOT_PLACES,
    LANDMARKS,
    NO_PART,
    NO_PERSON,
    NOTHING_HIT,
    OCCLUDERS,
    VISIBLE_WITHIN_M,
    sideless,
)
from blender_scripts.stage.camera import Pinhole
from blender_scripts.stage.character import Character
from blender_scripts.stage.face import FacePoint, find_face, nearest_point
from blender_scripts.stage.opacity import Hit, Opacity

OUT_OF_FRAME, OCCLUDED, VISIBLE = 0, 1, 2
#: Roles of meshes that are worn.
CLOTHES = ("garment", "shoes", "hat")
#: Part of a foot's length that counts as its extreme: the corners of a boxy shoe, and not one of them, are its end.
FOOT_END = 0.06
#: Facing is that of the surface within this distance of a landmark, as an ear or a nose is round, metres.
PATCH_M = 0.01
#: Height of the person for which tolerances hold, metres; shorter ones have thinner limbs.
TOLERANCE_HEIGHT_M = 1.7
#: Of anatomical markers, metres: they lie on the skin, and clothes hide them.
MARKER_TOLERANCE_M = 0.02
#: Nearer to the camera's plane, a point is not projected, metres.
LEAST_DEPTH_M = 0.05
#: The mask must have a pixel so near a visible landmark at least, in pixels.
MASK_NEAR_PIXELS = 2.0


@dataclass(frozen=True)
class Anchor:
    """How one landmark hangs on the character.

    ``origin`` is ``bone`` (the head of ``bones[0]``), ``surface`` (``weights`` over ``vertices``), ``proportion`` (the same,
    at a place that proportions gave and geometry did not), or ``interpolated``
    (``bones[1] + weights[0] * (bones[1] - bones[0])``). ``parts`` are the armature's bones whose surface counts as the
    landmark's own body part; ``patch`` (T, 3) the triangles around a point of the surface; ``tolerance_m`` how far before
    the landmark the first surface may lie.
    """

    origin: str
    parts: frozenset[str]
    tolerance_m: float
    bones: tuple[str, ...] = ()
    vertices: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    patch: np.ndarray | None = None


@dataclass(frozen=True)
class Sight:
    """What a camera sees of the 33 landmarks; each field (33,).

    ``in_frame`` bool; ``occluder_gap_m`` how far before the landmark the first surface on its ray lies, 0 where none does;
    ``facing`` the largest cosine between the camera's direction and the surface within a centimetre, NaN for joints;
    ``first_hit_part`` the bone that owns the first surface, as an index into the armature's bones, ``NO_PART`` or
    ``NOTHING_HIT``; ``visible`` bool; ``visible_part`` bool: in the frame, and the first surface is the landmark's own part;
    ``occluded_by`` uint8: why it is not visible, as an index into ``contract.OCCLUDERS``; ``occluded_by_person`` int8: which person
    hides it, ``NO_PERSON`` where none does.
    """

    in_frame: np.ndarray
    occluder_gap_m: np.ndarray
    facing: np.ndarray
    first_hit_part: np.ndarray
    visible: np.ndarray
    visible_part: np.ndarray
    occluded_by: np.ndarray
    occluded_by_person: np.ndarray

    @property
    def visibility(self) -> np.ndarray:
        """COCO's numbers, (33,) uint8: 0 outside the frame, 1 in it and not seen, 2 seen."""
        return np.where(self.in_frame, np.where(self.visible, VISIBLE, OCCLUDED), OUT_OF_FRAME).astype(np.uint8)  # fmt: skip


def anchor_landmarks(character: Character) -> list[Anchor]:
    """Tie the 33 landmarks to the character, in MediaPipe's order; leaves it in the rest pose.

    What looks wrong with the face is added to the character's warnings.
    """
    character.rest()
    stored = character.imported.stored
    if stored is not None and set(LANDMARKS) <= set(stored.landmarks):
        return [_stored_anchor(character, name, stored.landmarks[name]) for name in LANDMARKS]
    vertices = character.rest_vertices
    rig_map = character.rig.map
    face = find_face(character, vertices)
    anchors = []
    for name in LANDMARKS:
        parts = frozenset(
            character.rig.matching(rig_map["parts"]["face" if name in face else name])
        )
        scale = min(1.0, character.height / TOLERANCE_HEIGHT_M)
        tolerance = VISIBLE_WITHIN_M[sideless(name)] * scale
        if name in face:
            anchors.append(_surface_anchor(character, vertices, face[name], parts, tolerance))
            continue
        if name in rig_map["feet"]:
            foot = _foot_point(character, vertices, name)
            if foot is not None:
                anchors.append(_surface_anchor(character, vertices, foot, parts, tolerance))
                continue
            ankle = rig_map["feet"][name]["along"][0]
            anchors.append(Anchor("interpolated", parts, tolerance, bones=(ankle,) * 2, weights=(0.0,)))  # fmt: skip
            continue
        bone = next((b for b in rig_map["bones"][name] if character.rig.has(b)), None)
        if bone is not None:
            anchors.append(Anchor("bone", parts, tolerance, bones=(bone,)))
        else:
            near, far, factor = rig_map["fingers_missing"][name]
            anchors.append(Anchor("interpolated", parts, tolerance, bones=(near, far), weights=(factor,)))  # fmt: skip
    character.imported.warnings.extend(face_faults(character, anchors))
    return anchors


def anchor_markers(character: Character) -> dict[str, Anchor]:
    """The second set of keypoints, that people made here carry: anatomical markers on the skin, by name; else empty."""
    stored = character.imported.stored
    if stored is None:
        return {}
    return {name: _stored_anchor(character, "", row) for name, row in stored.markers.items()}


def _stored_anchor(character: Character, landmark: str, row: dict[str, list]) -> Anchor:
    """An anchor on the points that a file carries; a marker has no part and little tolerance."""
    first = len(character.rest_vertices)
    scale = min(1.0, character.height / TOLERANCE_HEIGHT_M)
    parts: frozenset[str] = frozenset()
    tolerance = MARKER_TOLERANCE_M
    if landmark:
        listed = character.rig.map["parts"]
        parts = frozenset(character.rig.matching(listed[landmark if landmark in listed else "face"]))  # fmt: skip
        tolerance = VISIBLE_WITHIN_M[sideless(landmark)] * scale
    patch = np.array(row["patch"], int).reshape(-1, 3) + first if row["patch"] else None
    vertices = tuple(int(v) + first for v in row["vertices"])
    return Anchor("surface", parts, tolerance, vertices=vertices, weights=tuple(map(float, row["weights"])), patch=patch)  # fmt: skip


def locate(character: Character, anchors: list[Anchor], vertices: np.ndarray) -> np.ndarray:
    """Where the landmarks are now: (33, 3), world frame, metres.

    ``vertices`` is ``character.all_points()`` in the same pose.
    """
    points = np.empty((len(anchors), 3))
    for i, anchor in enumerate(anchors):
        if anchor.vertices:
            points[i] = np.asarray(anchor.weights) @ vertices[list(anchor.vertices)]
        elif anchor.origin == "bone":
            points[i] = character.joint(anchor.bones[0])
        else:
            near, far = (character.joint(b) for b in anchor.bones)
            points[i] = far + anchor.weights[0] * (far - near)
    return points


def face_faults(character: Character, anchors: list[Anchor]) -> list[str]:
    """What contradicts itself in a face, as sentences; in the rest pose. Nothing for a face that looks right."""
    points = locate(character, anchors, character.rest_vertices)
    front = character.rest_facing
    left = np.cross((0.0, 0.0, 1.0), front)
    head = character.joint(character.rig.map["head"])
    # The side (left positive), depth (front positive) and height of each landmark from the head joint.
    at = dict(zip(LANDMARKS, (points - head) @ np.stack([left, front, (0.0, 0.0, 1.0)]).T, strict=True))  # fmt: skip
    faults = []
    eyes, mouth = (at["left_eye"] + at["right_eye"]) / 2, (at["mouth_left"] + at["mouth_right"]) / 2
    if not eyes[2] > at["nose"][2] > mouth[2]:
        faults.append("nose, eyes and mouth are not one below the other")
    corners = [at[f"{s}_eye_{c}"][2] for s in ("left", "right") for c in ("inner", "outer")]
    if np.abs(np.array(corners) - eyes[2]).max() > 0.02:
        faults.append("eye corners are more than 2 cm from the height of the eyes")
    for part in ("eye", "eye_inner", "eye_outer", "ear", "mouth"):
        names = (
            (f"{part}_left", f"{part}_right")
            if part == "mouth"
            else (f"left_{part}", f"right_{part}")
        )
        here, there = at[names[0]] - eyes, (at[names[1]] - eyes) * (-1.0, 1.0, 1.0)
        if np.linalg.norm(here - there) > 0.02:
            faults.append(f"{part.replace('_', ' ')}: left and right do not mirror each other")
    ears = (at["left_ear"] + at["right_ear"]) / 2
    if not (ears[1] < eyes[1] and abs(ears[1]) < 0.08 and at["left_ear"][0] > at["left_eye"][0]):
        faults.append("ears are not behind the eyes and beside the head")
    return [f"face landmarks look wrong: {fault}" for fault in faults]


def look(
    character: Character,
    anchors: list[Anchor],
    points: np.ndarray,
    vertices: np.ndarray,
    camera: Pinhole,
    mask: np.ndarray,
    opacity: Opacity,
    others: Mapping[str, int],
) -> Sight:
    """What ``camera`` sees of landmarks or markers.

    Args:
        points: (33, 3) as from ``locate``. vertices: (V, 3), ``character.all_points()`` in the same pose.
        others: of the meshes of other persons, by name, whose they are.
        mask: (H, W) bool, the pixels of the person.
        opacity: tells which surfaces rays pass.
    """
    scene = bpy.context.scene
    depsgraph = bpy.context.evaluated_depsgraph_get()
    bone_names = character.surface.bone_names
    pixels, depths = camera.project(points), camera.to_camera(points)[:, 2]
    in_frame = (
        (depths > 0)
        & (pixels >= 0).all(axis=1)
        & (pixels[:, 0] < camera.width)
        & (pixels[:, 1] < camera.height)
    )
    count = len(points)
    gap = np.zeros(count, np.float32)
    facing = np.full(count, np.nan, np.float32)
    part = np.full(count, NOTHING_HIT, np.int16)
    visible, visible_part = np.zeros(count, bool), np.zeros(count, bool)
    occluded_by = np.full(count, OCCLUDERS.index("frame"), np.uint8)
    by_person = np.full(count, NO_PERSON, np.int8)
    for i, anchor in enumerate(anchors):
        towards = points[i] - camera.position
        distance = float(np.linalg.norm(towards))
        if anchor.patch is not None:
            facing[i] = _facing(vertices[anchor.patch], camera.position)
        if not in_frame[i]:
            continue
        hit = opacity.first_hit(scene, depsgraph, camera.position, towards / distance)
        own = hit is None
        bone = -1
        if hit is not None:
            owners = character.surface.polygon_bone.get(hit.object)
            bone = -1 if owners is None else int(owners[hit.polygon])
            part[i] = bone if bone >= 0 else NO_PART
            own = bone >= 0 and bone_names[bone] in anchor.parts
            gap[i] = max(0.0, distance - hit.distance)
        visible_part[i] = own
        radius = max(MASK_NEAR_PIXELS, anchor.tolerance_m * camera.intrinsics[0, 0] / depths[i])
        visible[i] = (
            gap[i] <= anchor.tolerance_m
            and not facing[i] <= 0
            and _any_near(mask, pixels[i], radius)
        )
        why = "none" if visible[i] else _why_hidden(character, anchor, hit, bone, gap[i], others)
        occluded_by[i] = OCCLUDERS.index(why)
        if why == "person" and hit is not None:
            by_person[i] = others[hit.object]
    return Sight(in_frame, gap, facing, part, visible, visible_part, occluded_by, by_person)


def _why_hidden(
    character: Character,
    anchor: Anchor,
    hit: Hit | None,
    bone: int,
    gap: float,
    others: Mapping[str, int],
) -> str:
    """Which of ``contract.OCCLUDERS`` hides a landmark in the frame: by the first surface on its ray."""
    if hit is None:
        return "self"  # on the far side of its own, thin part
    if hit.object in others:
        return "person"
    if hit.object not in character.surface.polygon_bone:
        return "object" if gap > anchor.tolerance_m else "self"
    worn = character.imported.role(hit.object) in CLOTHES
    own_part = bone >= 0 and character.surface.bone_names[bone] in anchor.parts
    skirt = "skirt" in hit.object
    if worn and gap > CLOTHING_HIDES_BEYOND_M and (own_part or skirt or not anchor.parts):
        return "clothing"
    return "self"


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


def amodal_box(camera: Pinhole, vertices: np.ndarray) -> np.ndarray:
    """Box (x, y, width, height) in pixels of the whole person, hidden parts and those outside the frame included.

    Parts beside or behind the camera have no place in its picture: the box is that of what lies before it, and of no extent where
    nothing does.

    Args:
        vertices: (V, 3) of its surface, world frame.
    """
    before = camera.to_camera(vertices)[:, 2] > LEAST_DEPTH_M
    if not before.any():
        return np.zeros(4)
    outline = camera.project(vertices[before])
    low, high = outline.min(axis=0), outline.max(axis=0)
    return np.concatenate([low, high - low])


class Feet:
    """The soles of a person: of which vertices its heels and toes are, found in the rest pose."""

    def __init__(self, character: Character) -> None:
        self._places: list[np.ndarray] = []
        for name in FOOT_PLACES:
            side, place = name.split("_")
            foot = next(
                leg[-1] for leg in character.rig.map["legs"] if leg[-1].lower().startswith(side)
            )
            toes = next(t for t in character.rig.map["toes"] if t.lower().startswith(side))
            bones = character.rig.matching([f"{foot}*", f"{toes}*"])
            owned = _owned(character, bones)
            along = character.rest_vertices[owned] @ character.rest_facing
            if not len(owned):
                self._places.append(owned)
                continue
            middle = (along.min() + along.max()) / 2
            self._places.append(
                owned[along < middle] if place == "heel" else owned[along >= middle]
            )

    def over_floor(self, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How high over the floor (z = 0) the lowest point of each of ``FOOT_PLACES`` is, (4,) metres, and whether it stands on it, (4,)
        bool. A rig without vertices at its feet has no contacts, and heights of 0.

        Args:
            vertices: (V, 3) of its surface, world frame.
        """
        height = np.array([vertices[p, 2].min() if len(p) else 0.0 for p in self._places])
        there = np.array([len(p) > 0 for p in self._places])
        return height.astype(np.float32), there & (height <= CONTACT_WITHIN_M)


def _facing(triangles: np.ndarray, eye: np.ndarray) -> float:
    """The largest cosine between a triangle's normal and the direction to ``eye``; triangles (T, 3, 3)."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    to_eye = eye - triangles.mean(axis=1)
    lengths = np.linalg.norm(normals, axis=1) * np.linalg.norm(to_eye, axis=1)
    return float(((normals * to_eye).sum(axis=1) / np.maximum(lengths, 1e-20)).max())


def _any_near(mask: np.ndarray, pixel: np.ndarray, radius: float) -> bool:
    x, y = pixel
    top, left = max(0, int(y - radius)), max(0, int(x - radius))
    return bool(mask[top : int(y + radius) + 1, left : int(x + radius) + 1].any())


def _surface_anchor(
    character: Character,
    vertices: np.ndarray,
    point: FacePoint,
    parts: frozenset[str],
    tolerance: float,
) -> Anchor:
    """An anchor with the triangles around it, wound so that their normals point outwards in the rest pose."""
    position = np.asarray(point.weights) @ vertices[list(point.vertices)]
    triangles = character.surface.triangles
    near = np.linalg.norm(vertices - position, axis=1) < PATCH_M
    near[list(point.vertices)] = True
    patch = triangles[near[triangles].any(axis=1)]
    corners = vertices[patch]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    mean = normals.sum(axis=0)
    around = vertices[_owned(character, set(parts))]
    outwards = position - (around.min(axis=0) + around.max(axis=0)) / 2
    # Triangles that look back into the body are the inside of a nostril or a lip.
    patch = patch[(normals @ mean) > -0.2 * np.linalg.norm(normals, axis=1) * np.linalg.norm(mean)]
    if mean @ outwards < 0:
        patch = patch[:, ::-1]  # a mesh turned inside out, or mirrored
    return Anchor(point.origin, parts, tolerance, vertices=point.vertices, weights=point.weights, patch=patch)  # fmt: skip


def _owned(character: Character, bones: set[str]) -> np.ndarray:
    """Indices of the vertices whose dominant bone is one of ``bones``."""
    wanted = [i for i, n in enumerate(character.surface.bone_names) if n in bones]
    return np.flatnonzero(np.isin(character.surface.vertex_bone, wanted))


def _foot_point(character: Character, vertices: np.ndarray, name: str) -> FacePoint | None:
    """The middle of the rearmost or foremost end of a foot's lower half; None where no surface hangs on its bones."""
    where = character.rig.map["feet"][name]
    owned = _owned(character, character.rig.matching(where["bones"]))
    if not len(owned):
        return None
    ankle, toe = where["along"]
    along = character.rest_facing
    if character.rig.has(toe):
        direction = (character.joint(toe) - character.joint(ankle)) * (1.0, 1.0, 0.0)
        if np.linalg.norm(direction) > 1e-6:
            along = direction / np.linalg.norm(direction)
    foot = vertices[owned]
    low = foot[:, 2] < foot[:, 2].min() + 0.5 * np.ptp(foot[:, 2])
    reach = foot @ along * (1.0 if where["end"] == "front" else -1.0)
    end = low & (reach > reach[low].max() - FOOT_END * np.ptp(reach))
    # The middle between the outermost ones in each direction: a mean would lean to where the mesh is dense.
    sideways = np.cross((0.0, 0.0, 1.0), along)
    across, heights = foot[end] @ sideways, foot[end][:, 2]
    forward = reach[end].max() * (1.0 if where["end"] == "front" else -1.0)
    middle = [(values.min() + values.max()) / 2 for values in (across, heights)]
    target = middle[0] * sideways + forward * along + np.array((0.0, 0.0, middle[1]))
    inside = np.zeros(len(vertices), bool)
    inside[owned] = True
    triangles = character.surface.triangles
    triangles = triangles[inside[triangles].all(axis=1)]
    if not len(triangles):
        return None
    return nearest_point(vertices, triangles, target)
