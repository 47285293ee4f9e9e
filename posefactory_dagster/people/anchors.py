"""Where the landmarks are on the body's mesh: chosen once, the same on every body.

The 33 landmarks of MediaPipe and a second set of anatomical markers are weighted means of a few vertices of the shared mesh.
`assets_data/people/anchors.json` holds them; ``build`` makes that file. Landmarks inside a limb (shoulder, elbow, hip, ...) are
means of vertices around it, weighted so that they fall on the joint for every shape of body.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from blender_scripts.contract import LANDMARKS
from posefactory_dagster.people.body import BODY_VERTICES, Body, BodyModel, topology
from posefactory_dagster.people.mesh import Piece, triangulate, vertex_normals
from posefactory_dagster.settings import ASSETS_DATA

FILE = ASSETS_DATA / "people" / "anchors.json"
#: Vertices nearer to a joint than this, in parts of the body's height, may carry it.
JOINT_REACH = 0.075
#: How strongly weights are kept even, so that a joint is carried from all around.
EVENNESS = 0.03
#: Facing is that of the skin so near to a landmark, metres, on the mean body.
PATCH_M = 0.012

#: Joints of the 33 landmarks, by bone of the left side.
_JOINTS = {
    "shoulder": "Arm", "elbow": "ForeArm", "wrist": "Hand", "pinky": "HandPinky1", "index": "HandIndex1", "thumb": "HandThumb2",
    "hip": "UpLeg", "knee": "Leg", "ankle": "Foot",
}  # fmt: skip
#: Anatomical markers: the joint that a ray leaves from, and its direction on the left side (x left, y back, z up).
_MARKERS = {
    "acromion": ("Arm", (0.25, 0.0, 1.0)), "lateral_epicondyle": ("ForeArm", (0.4, 0.6, 0.6)),
    "medial_epicondyle": ("ForeArm", (-0.4, -0.1, -0.9)), "radial_styloid": ("Hand", (0.35, -0.9, 0.2)),
    "ulnar_styloid": ("Hand", (0.2, 0.9, 0.2)), "anterior_superior_iliac_spine": ("UpLeg", (0.25, -1.0, 0.75)),
    "posterior_superior_iliac_spine": ("UpLeg", (-0.35, 1.0, 0.6)), "greater_trochanter": ("UpLeg", (1.0, 0.1, 0.0)),
    "lateral_femoral_epicondyle": ("Leg", (1.0, 0.0, 0.0)), "medial_femoral_epicondyle": ("Leg", (-1.0, 0.0, 0.0)),
    "patella": ("Leg", (0.0, -1.0, 0.1)), "lateral_malleolus": ("Foot", (1.0, 0.1, 0.0)),
    "medial_malleolus": ("Foot", (-1.0, 0.0, 0.1)), "fifth_metatarsal": ("ToeBase", (1.0, 0.0, -0.1)),
    "first_metatarsal": ("ToeBase", (-1.0, 0.0, 0.0)),
}  # fmt: skip
#: Those in the middle of the body.
_MIDDLE_MARKERS = {
    "vertex": ("Head", (0.0, 0.05, 1.0)), "c7": ("Neck", (0.0, 1.0, 0.1)), "suprasternal_notch": ("Neck", (0.0, -1.0, -0.25)),
    "xiphoid": ("Spine2", (0.0, -1.0, -0.1)), "t10": ("Spine1", (0.0, 1.0, 0.1)), "navel": ("Spine", (0.0, -1.0, 0.05)),
    "sacrum": ("Hips", (0.0, 1.0, 0.15)),
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """A point of the mesh: ``weights`` over ``vertices``; ``patch`` (T, 3) the triangles around it, empty inside limbs."""

    vertices: tuple[int, ...]
    weights: tuple[float, ...]
    patch: tuple[tuple[int, int, int], ...] = ()

    def on(self, vertices: np.ndarray) -> np.ndarray:
        """(3,) where it is on a body's (19158, 3) vertices."""
        return np.asarray(self.weights) @ vertices[list(self.vertices)]


@functools.cache
def points() -> tuple[Mapping[str, Point], Mapping[str, Point]]:
    """The landmarks and the markers that ship, by name."""
    stored = json.loads(FILE.read_text("utf-8"))

    def read(rows: Mapping[str, Mapping[str, list]]) -> dict[str, Point]:
        return {n: Point(tuple(r["vertices"]), tuple(r["weights"]), tuple(map(tuple, r["patch"]))) for n, r in rows.items()}  # fmt: skip

    return read(stored["landmarks"]), read(stored["markers"])


def build(model: BodyModel) -> dict[str, dict[str, Point]]:
    """Choose the points anew: ``landmarks`` and ``markers``."""
    bodies = [model.body({"gender": g, "age": 2 / 3}) for g in (0.0, 0.5, 1.0)]
    mean = model.body({"gender": 0.5, "age": 2 / 3})
    faces = triangulate(topology().faces["body"])
    found = {}
    for name in LANDMARKS:
        sideless = name.replace("left_", "").replace("right_", "")
        side = "Right" if "right" in name else "Left"
        if sideless in _JOINTS:
            found[name] = _joint(bodies, mean, f"{side}{_JOINTS[sideless]}")
        else:
            found[name] = _surface(mean, faces, _face_or_foot(model, mean, name))
    markers = {}
    for name, (bone, direction) in _MIDDLE_MARKERS.items():
        markers[name] = _surface(mean, faces, _ray(mean, faces, mean.head(bone), direction))
    for name, (bone, direction) in _MARKERS.items():
        for side, sign in (("left", 1), ("right", -1)):
            aim = (direction[0] * sign, *direction[1:])
            start = mean.head(f"{side.capitalize()}{bone}")
            markers[f"{side}_{name}"] = _surface(mean, faces, _ray(mean, faces, start, aim))
    return {"landmarks": found, "markers": markers}


def save(found: Mapping[str, Mapping[str, Point]]) -> None:
    """Write the file that ships."""
    document = {
        kind: {
            n: {"vertices": list(p.vertices), "weights": [round(w, 6) for w in p.weights], "patch": [list(t) for t in p.patch]}
            for n, p in rows.items()
        }
        for kind, rows in found.items()
    }  # fmt: skip
    FILE.write_text(json.dumps(document, separators=(",", ":")) + "\n", "utf-8")


def with_joints_inside(body: Body) -> Body:
    """The body with the bones of its limbs beginning where the landmarks of these joints are.

    On bodies far from the mean `anny`'s knees lie up to 8 cm from the middle of the knee's skin (its others up to 2 cm); the
    means of the skin around the joints stay inside.
    """
    landmarks, _ = points()
    heads = body.heads.copy()
    for name, part in _JOINTS.items():
        for side in ("left", "right"):
            bone = body.bones.index(f"mixamorig:{side.capitalize()}{part}")
            heads[bone] = landmarks[f"{side}_{name}"].on(body.vertices)
    return dataclasses.replace(body, heads=heads)


def _joint(bodies: list[Body], mean: Body, bone: str) -> Point:
    """Vertices around a joint whose weighted mean is the joint on usual bodies: non-negative least squares, kept even."""
    joint = mean.head(bone)
    finger = "Hand" in bone and not bone.endswith("Hand")
    reach = (0.018 if finger else JOINT_REACH) * mean.height
    near = np.flatnonzero(np.linalg.norm(mean.vertices[:BODY_VERTICES] - joint, axis=1) < reach)
    index = mean.bones.index(f"mixamorig:{bone}")
    parent = int(mean.parents[index])
    mine = mean.dense_weights[near][:, [index, parent]].sum(axis=1) > 0.5
    near = near[mine] if mine.sum() >= 12 else near
    rows = np.concatenate([(b.vertices[near] - b.head(bone)).T / b.height for b in bodies])
    count = len(near)
    system = np.concatenate([rows, EVENNESS * np.eye(count), 30.0 * np.ones((1, count))])
    target = np.concatenate([np.zeros(len(rows)), np.full(count, EVENNESS / count), [30.0]])
    weights, _ = nnls(system, target, maxiter=50 * count)
    kept = weights > 0.0005
    shares = weights[kept] / weights[kept].sum()
    return Point(tuple(near[kept].tolist()), tuple(np.round(shares, 6).tolist()))


def _surface(mean: Body, faces: np.ndarray, vertex: int) -> Point:
    """A vertex with the triangles around it that face as it does."""
    if vertex >= BODY_VERTICES:  # an eyeball's front
        shape = topology()
        faces = triangulate(np.concatenate([shape.faces["helper-l-eye"], shape.faces["helper-r-eye"]]))  # fmt: skip
    position = mean.vertices[vertex]
    normals = vertex_normals(mean.vertices, faces)
    near = np.linalg.norm(mean.vertices - position, axis=1) < PATCH_M
    near[vertex] = True
    patch = faces[near[faces].any(axis=1)]
    a, b, c = (mean.vertices[patch[:, i]] for i in range(3))
    own = np.cross(b - a, c - a)
    agrees = own @ normals[vertex] > 0.2 * np.linalg.norm(own, axis=1)
    agrees |= (patch == vertex).any(axis=1)
    return Point((int(vertex),), (1.0,), tuple(map(tuple, patch[agrees].tolist())))


def _ray(mean: Body, faces: np.ndarray, start: np.ndarray, direction: tuple[float, ...]) -> int:
    """The vertex of the skin nearest to where a ray from inside leaves the body."""
    aim = np.asarray(direction) / np.linalg.norm(direction)
    a, b, c = (mean.vertices[faces[:, i]] for i in range(3))
    # Möller and Trumbore, 1997.
    one, two = b - a, c - a
    across = np.cross(aim, two)
    determinant = np.einsum("ij,ij->i", one, across)
    away = start - a
    with np.errstate(divide="ignore", invalid="ignore"):
        u = np.einsum("ij,ij->i", away, across) / determinant
        other = np.cross(away, one)
        v = other @ aim / determinant
        distance = np.einsum("ij,ij->i", two, other) / determinant
    hit = (u >= -1e-6) & (v >= -1e-6) & (u + v <= 1 + 1e-6) & (distance > 1e-4)
    # The first way out of the limb that it starts in.
    leaving = hit & (np.cross(one, two) @ aim > 0)
    nearest = np.argmin(np.where(leaving, distance, np.inf))
    point = start + distance[nearest] * aim
    corners = faces[nearest]
    return int(corners[np.argmin(np.linalg.norm(mean.vertices[corners] - point, axis=1))])


def _face_or_foot(model: BodyModel, mean: Body, name: str) -> int:
    """The vertex of a landmark on the skin of the face or the foot."""
    points, body = mean.vertices, np.arange(len(mean.vertices)) < BODY_VERTICES
    sign = -1.0 if "right" in name else 1.0
    side = "r" if sign < 0 else "l"
    eye = np.arange(14598, 14670) if sign > 0 else np.arange(14670, 14742)

    def farthest(change: str, allowed: np.ndarray, rank: np.ndarray | None = None) -> int:
        """Where a local change moves the mesh most; of equals the first in ``rank``."""
        moved = np.where(allowed, model.moved_by(change), 0.0)
        if rank is None:
            return int(moved.argmax())
        chosen = moved > 0.7 * moved.max()
        return int(np.where(chosen, rank, -np.inf).argmax())

    head = body & (points[:, 2] > mean.head("Head")[2])
    if name == "nose":
        return int(np.where(head & (np.abs(points[:, 0]) < 0.004), -points[:, 1], -np.inf).argmax())
    if name.endswith("_eye"):
        return int(eye[np.argmin(points[eye][:, 1])])
    if "eye_inner" in name or "eye_outer" in name:
        changes = [f"{side}-eye-corner{k}-up" for k in (1, 2)]
        corners = [farthest(c, head) for c in changes]
        corners.sort(key=lambda v: abs(points[v, 0]))
        return corners[0] if "inner" in name else corners[1]
    if "ear" in name:
        moved = model.moved_by(f"{side}-ear-scale-incr")
        ear = np.flatnonzero(body & (moved > 0.15 * moved[body].max()))
        box = (points[ear].min(axis=0) + points[ear].max(axis=0)) / 2
        # The outside of its middle.
        near = np.linalg.norm(points[ear][:, 1:] - box[1:], axis=1)
        return int(ear[np.argmin(near - 0.6 * sign * points[ear][:, 0])])
    if "mouth" in name:
        mouth_sign = 1.0 if name == "mouth_left" else -1.0
        lips = head & (mouth_sign * points[:, 0] > 0.005)
        eyes = points[14598:14742].mean(axis=0)
        moved = model.moved_by("mouth-angles-up")
        return int(np.where(lips & (points[:, 2] < eyes[2] - 0.03), moved, -1).argmax())
    ankle, toe = mean.head("LeftFoot" if sign > 0 else "RightFoot"), mean.head("LeftToeBase" if sign > 0 else "RightToeBase")  # fmt: skip
    along = (toe - ankle) * (1, 1, 0)
    along /= np.linalg.norm(along)
    foot = body & (sign * points[:, 0] > 0) & (points[:, 2] < 0.06)
    reach = points @ along * (1.0 if name.endswith("foot_index") else -1.0)
    low = foot & (points[:, 2] < 0.045)
    end = low & (reach > reach[low].max() - 0.012)
    across = np.cross((0, 0, 1.0), along)
    sides, heights = points[end] @ across, points[end][:, 2]
    middle = np.array((np.mean((sides.min(), sides.max())), np.mean((heights.min(), heights.max()))))  # fmt: skip
    candidates = np.flatnonzero(end)
    place = np.column_stack([points[candidates] @ across, points[candidates][:, 2]])
    return int(candidates[np.argmin(np.linalg.norm(place - middle, axis=1))])


def piece(body: Body, dense: np.ndarray) -> tuple[Piece, dict]:
    """The mesh of all points' vertices on a body, and where each point is in it.

    Returns:
        (a piece of triangles that only carry positions, {"landmarks": {name: {vertices, weights, patch}}, "markers": …}) with
        indices into that piece.
    """
    landmarks, markers = points()
    used = sorted({v for rows in (landmarks, markers) for p in rows.values() for v in (*p.vertices, *np.ravel(p.patch).astype(int).tolist())})  # fmt: skip
    place = {v: i for i, v in enumerate(used)}

    def said(rows: Mapping[str, Point]) -> dict:
        return {
            n: {"vertices": [place[v] for v in p.vertices], "weights": list(p.weights), "patch": [[place[v] for v in t] for t in p.patch]}
            for n, p in rows.items()
        }  # fmt: skip

    triangles = np.arange(len(used) + (-len(used)) % 3) % len(used)
    mesh = Piece(
        "posefactory_anchors", "anchors", "unseen", body.vertices[used], triangles.reshape(-1, 3), np.zeros((len(used), 2)), dense[used],
    )  # fmt: skip
    return mesh, {"landmarks": said(landmarks), "markers": said(markers)}
