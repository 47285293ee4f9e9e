"""Find the face of a head: nose, eyes, ears and mouth as points of its surface, in the rest pose.

Only geometry is asked, and no statistic depends on how densely a mesh is modelled: faces are modelled densely, and a
median of vertices lies on the cheek. Hats, goggles and hair that are pieces of their own are told from the skin by
connection. What geometry cannot tell is placed by proportion and says so (origin ``proportion``).

Positions here are in the frame of the head: side (left positive), depth (front positive) and height, in metres, from the
head joint. Proportions are means of adults in units of the distance between the pupils (63 mm) from L. G. Farkas,
Anthropometry of the Head and Face, 2nd edition, 1994; the rig map holds them as data.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import mathutils
import numpy as np
from mathutils.bvhtree import BVHTree

from blender_scripts.errors import InputError
from blender_scripts.stage.character import Character

#: Vertices nearer than this are one: importers split vertices at seams.
WELD_M = 1e-5
MIN_HEAD_VERTICES = 20
#: Step of the rays that feel a profile or a relief.
STEP_M = 0.003
#: A nose stands out this far before the cheek beside it, and an ear from the side of the head, in pupil distances.
NOSE_STANDS_OUT = 0.10
EAR_STANDS_OUT = 0.08
#: An ear is narrower than this many nose lengths, and what is wider is head.
EAR_NARROWER = 0.65
#: Of what stands out, in pupil distances: how tall and wide it is where it is an ear (63 x 36 mm: Farkas 1994, with room for
#: drawn figures), how far its rim stands out at least, and how far before its middle the middle of the ear lies.
EAR_TALL, EAR_WIDE = (0.4, 1.2), (0.2, 0.9)
EAR_RIM = 0.15
EAR_FRONT = 0.08
#: A closed mouth has a slit that rays fall into; below the chin the face stays back for longer than this.
SLIT = 0.3
#: Least and greatest size of an eyeball, and how far from the height of the head joint it may lie, in body heights; a
#: drawn figure has eyes three times as large as a person's 24 mm. The least roundness, of its shortest over its longest side.
EYE_SIZE = (0.005, 0.06)
EYE_LEVEL = 0.2
EYE_ROUND = 0.55
#: Pupil distance over the width of the head (63 mm and 154 mm: Farkas 1994).
PUPILS_OF_WIDTH = 0.41
#: Height of the head over its width at the most; what is higher is hair or a hat (231 mm and 154 mm: Farkas 1994).
HEIGHT_OF_WIDTH = 1.6


@dataclass(frozen=True)
class FacePoint:
    """A landmark on the surface: ``weights`` over ``vertices`` of the character; origin ``surface`` or ``proportion``."""

    origin: str
    vertices: tuple[int, ...]
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Eyes:
    """The two eyes: centres (2, 3) left and right in the frame of the head, and the triangles of their balls, if any."""

    centres: np.ndarray
    triangles: np.ndarray

    @property
    def distance(self) -> float:
        """Between the pupils, metres."""
        return float(self.centres[0, 0] - self.centres[1, 0])

    @property
    def level(self) -> float:
        """Height of the pupils."""
        return float(self.centres[:, 2].mean())


#: Where a ray meets the skin: point (3,) and corners of the triangle (3,), or None for both.
Hit = tuple[Any, Any]


class Head:
    """A head in the rest pose, that can be felt by rays from the front and from the sides."""

    def __init__(self, character: Character, vertices: np.ndarray) -> None:
        rig, self._rig_map = character.rig, character.rig.map
        self._height = character.height
        self.proportions: dict = self._rig_map["face"]
        self.parts = frozenset(rig.matching(self._rig_map["parts"]["face"]))
        front = character.rest_facing
        left = np.cross((0.0, 0.0, 1.0), front)
        self.axes = np.stack([left, front, (0.0, 0.0, 1.0)])
        self.origin = character.joint(self._rig_map["head"])
        self.points = (vertices - self.origin) @ self.axes.T
        bones = [i for i, n in enumerate(character.surface.bone_names) if n in self.parts]
        owned = np.isin(character.surface.vertex_bone, bones)
        if owned.sum() < MIN_HEAD_VERTICES:
            raise InputError(
                f"{character.name}: no surface hangs on the head bone; weight the head to it"
            )
        triangles = character.surface.triangles
        piece = _pieces(vertices, triangles)
        of_head = owned[triangles].all(axis=1)
        self._triangles, self._piece = triangles[of_head], piece[triangles[of_head][:, 0]]
        below = set(piece[~owned].tolist())
        self.eyes = self._eye_bones(character) or self._eye_balls()
        skin = self._skin(below)
        # A ray at the corner of an eye would else pass between lid and ball into the socket.
        balls = np.empty((0, 3), np.int32) if self.eyes is None else self.eyes.triangles
        self._feel = self._tree(np.concatenate([skin, balls]))
        self.width = self._width()

    def _tree(self, triangles: np.ndarray) -> tuple[BVHTree, np.ndarray]:
        return BVHTree.FromPolygons(self.points.tolist(), triangles.tolist()), triangles

    def _area(self, triangles: np.ndarray) -> np.ndarray:
        a, b, c = (self.points[triangles[:, i]] for i in range(3))
        return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2

    def _skin(self, below: set[int]) -> np.ndarray:
        """The triangles of the piece that is the face; hats, hair and goggles are others.

        That is the one with most surface around the eyes; where no eyes are known, in the front and lower part of the
        head, among those that go on below the head if there are such.
        """
        centres = self.points[self._triangles].mean(axis=1)
        if self.eyes is not None:
            near = np.linalg.norm(centres[:, None] - self.eyes.centres, axis=2).min(axis=1)
            counted = near < 0.8 * self.eyes.distance
        else:
            low, high = centres[:, 2].min(), centres[:, 2].max()
            counted = (centres[:, 1] > 0) & (centres[:, 2] < low + 0.6 * (high - low))
        balls = set() if self.eyes is None else {tuple(t) for t in self.eyes.triangles.tolist()}
        area = self._area(self._triangles)
        best, most = None, -1.0
        for piece in np.unique(self._piece):
            mine = self._piece == piece
            if balls and tuple(self._triangles[mine][0].tolist()) in balls:
                continue
            score = float(area[mine & counted].sum()) * (4.0 if piece in below else 1.0)
            if score > most:
                best, most = piece, score
        return self._triangles[self._piece == best]

    def _eye_bones(self, character: Character) -> Eyes | None:
        names = self._rig_map["eyes"]
        if not all(character.rig.has(n) for n in names):
            return None
        centres = np.stack([(character.joint(n) - self.origin) @ self.axes.T for n in names])
        # Some rigs have eye bones that were never moved to the eyes.
        apart = centres[0, 0] - centres[1, 0]
        if not 0.01 < apart < 0.3 or centres[:, 1].min() <= 0 or np.ptp(centres[:, 2]) > 0.02:
            return None
        balls = self._eye_balls()
        if balls is not None and np.abs(balls.centres - centres).max() < 0.5 * apart:
            return balls
        return Eyes(centres, np.empty((0, 3), np.int32))

    def _eye_balls(self) -> Eyes | None:
        """Two like, round pieces in the front of the head, mirrored: the rounder the pair, the likelier eyes."""
        balls = []
        for piece in np.unique(self._piece):
            triangles = self._triangles[self._piece == piece]
            points = self.points[np.unique(triangles)]
            size = np.ptp(points, axis=0)
            centre = (points.min(axis=0) + points.max(axis=0)) / 2
            if not EYE_SIZE[0] * self._height < size.max() < EYE_SIZE[1] * self._height:
                continue
            # Before the middle of the head and nearer to it than to its side, as earrings and headphones are not.
            if (
                centre[1] > abs(centre[0]) > EYE_SIZE[0] * self._height
                and abs(centre[2]) < EYE_LEVEL * self._height
            ):
                balls.append((float(size.min() / size.max()), centre, size, triangles))
        best, roundest = None, EYE_ROUND
        for a in balls:
            for b in balls:
                if not a[1][0] > 0 > b[1][0]:
                    continue
                apart = a[1][0] - b[1][0]
                mirrored = abs(a[1][0] + b[1][0]) < 0.2 * apart
                alike = np.abs(a[1][1:] - b[1][1:]).max() < 0.1 * apart
                same_size = np.abs(a[2] - b[2]).max() < 0.2 * a[2].max()
                if mirrored and alike and same_size and min(a[0], b[0]) > roundest:
                    best, roundest = (a, b), min(a[0], b[0])
        if best is None:
            return None
        return Eyes(np.stack([best[0][1], best[1][1]]), np.concatenate([best[0][3], best[1][3]]))

    def _cast(self, start: np.ndarray, direction: tuple[float, float, float]) -> Hit:
        position, _, index, _ = self._feel[0].ray_cast(
            mathutils.Vector(start), mathutils.Vector(direction)
        )
        return (None, None) if position is None else (np.array(position), self._feel[1][index])

    def from_front(self, side: float, height: float) -> Hit:
        """Where a ray from the front meets the skin: (point (3,), triangle (3,)), or (None, None)."""
        return self._cast(np.array((side, 1.0, height)), (0.0, -1.0, 0.0))

    def from_side(self, sign: float, depth: float, height: float) -> Hit:
        """The same for a ray from the left (``sign`` 1) or the right (-1)."""
        return self._cast(np.array((sign * 1.0, depth, height)), (-sign, 0.0, 0.0))

    def front_depth(self, side: float, height: float) -> float:
        """Depth of the skin seen from the front; -inf where there is none."""
        point, _ = self.from_front(side, height)
        return -np.inf if point is None else float(point[1])

    def span(self) -> tuple[float, float]:
        """Lowest and highest point of the skin."""
        heights = self.points[np.unique(self._feel[1])][:, 2]
        return float(heights.min()), float(heights.max())

    def _width(self) -> float:
        """Width of the head above the ears, by rays at the depth of the head joint; robust against what sticks out."""
        low, high = self.span()
        widths = []
        for height in np.linspace(low + 0.35 * (high - low), low + 0.85 * (high - low), 11):
            sides = [self.from_side(sign, 0.01, height)[0] for sign in (1.0, -1.0)]
            if sides[0] is not None and sides[1] is not None:
                widths.append(sides[0][0] - sides[1][0])
        if not widths:
            return float(np.ptp(self.points[np.unique(self._feel[1])][:, 0]))
        return float(np.median(widths))

    def point(self, origin: str, position: np.ndarray, corners: np.ndarray) -> FacePoint:
        """A point of a triangle as a landmark."""
        return _on_triangle(origin, position, self.points, corners)

    def nearest(self, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The nearest point of the skin and its triangle."""
        found, _, index, _ = self._feel[0].find_nearest(mathutils.Vector(position))
        return np.array(found), self._feel[1][index]


def find_face(character: Character, vertices: np.ndarray) -> dict[str, FacePoint]:
    """The eleven landmarks of the face.

    Args:
        vertices: ``character.vertices()`` in the rest pose, (V, 3).

    Returns:
        A point for each of the rig map's face landmarks, by name.

    Raises:
        InputError: no surface hangs on the head bone.
    """
    head = Head(character, vertices)
    measures = head.proportions["in_pupil_distances"]
    eyes = head.eyes
    middle = 0.0 if eyes is None else float(eyes.centres[:, 0].mean())
    unit = eyes.distance if eyes is not None else PUPILS_OF_WIDTH * head.width
    nose = _nose(head, eyes, middle, unit)
    chin = _chin(head, middle, nose, unit)
    top = _top(head, character, chin)
    if eyes is not None:
        level = eyes.level
    elif nose is not None:
        level = float(nose[0][2]) + measures["nose_below_eyes"] * unit
    else:
        level = chin + head.proportions["eye_height"] * (top - chin)

    points: dict[str, FacePoint] = {}
    nose_height = level - measures["nose_below_eyes"] * unit
    if nose is not None:
        points["nose"] = head.point("surface", *nose)
        nose_height = float(nose[0][2])
    else:
        points["nose"] = _on_front(head, "proportion", middle, nose_height)

    # Ears are as tall as a nose is long, whatever the width of the head.
    size = unit if nose is None else (level - nose_height) / measures["nose_below_eyes"]
    seen = "proportion" if eyes is None else "surface"
    for sign, side in ((1.0, "left"), (-1.0, "right")):
        centre = middle + sign * unit / 2
        if eyes is not None and len(eyes.triangles):
            points[f"{side}_eye"] = _on_ball(head, eyes, 0 if sign > 0 else 1)
        else:
            points[f"{side}_eye"] = _on_front(head, seen, centre, level)
        for name, measure in (("inner", "inner_corner"), ("outer", "outer_corner")):
            lateral = middle + sign * measures[measure] * unit
            points[f"{side}_eye_{name}"] = _on_front(head, seen, lateral, level)
        points[f"{side}_ear"] = _ear(head, sign, level, size, measures)
    mouth = nose_height - head.proportions["mouth_of_nose_to_chin"] * (nose_height - chin)
    # With eyes and a nose, scale and level of the mouth are known to a few millimetres.
    known = "surface" if eyes is not None and nose is not None else "proportion"
    for sign, name in ((1.0, "mouth_left"), (-1.0, "mouth_right")):
        points[name] = _on_front(
            head, known, middle + sign * measures["mouth_corner"] * unit, mouth
        )
    return points


def _on_front(head: Head, origin: str, side: float, height: float) -> FacePoint:
    position, corners = head.from_front(side, height)
    if position is None:
        position, corners = head.nearest(np.array((side, head.front_depth(0.0, height), height)))
    return head.point(origin, position, corners)


def _on_ball(head: Head, eyes: Eyes, which: int) -> FacePoint:
    """The front of an eyeball: where the pupil is while the eye looks ahead."""
    centre = eyes.centres[which]
    tree = BVHTree.FromPolygons(head.points.tolist(), eyes.triangles.tolist())
    start = mathutils.Vector((centre[0], 1.0, centre[2]))
    position, _, index, _ = tree.ray_cast(start, mathutils.Vector((0.0, -1.0, 0.0)))
    if position is None:
        position, _, index, _ = tree.find_nearest(start)
    return head.point("surface", np.array(position), eyes.triangles[index])


def _nose(
    head: Head, eyes: Eyes | None, middle: float, unit: float
) -> tuple[np.ndarray, np.ndarray] | None:
    """The foremost point of the face's midline, if it stands out before the cheeks: (point, triangle), or None."""
    low, high = head.span()
    if eyes is not None:
        low, high = eyes.level - 1.2 * unit, eyes.level - 0.2 * unit
    else:
        low, high = low + 0.2 * (high - low), low + 0.65 * (high - low)
    best, most = None, -np.inf
    for height in np.arange(low, high, STEP_M):
        position, corners = head.from_front(middle, height)
        if position is None:
            continue
        beside = [head.front_depth(middle + s * 0.3 * unit, height) for s in (-1.0, 1.0)]
        if not position[1] - max(beside) > NOSE_STANDS_OUT * unit:
            continue
        if position[1] > most:
            best, most = (position, corners), position[1]
    return best


def _chin(
    head: Head, middle: float, nose: tuple[np.ndarray, np.ndarray] | None, unit: float
) -> float:
    """The height where the face ends below: there its midline falls back by almost half."""
    low, high = head.span()
    start = low + 0.4 * (high - low) if nose is None else float(nose[0][2]) - 0.3 * unit
    reference = head.front_depth(middle, start)
    chin = height = start
    while height > max(low, chin - SLIT * unit):
        height -= STEP_M
        if head.front_depth(middle, height) >= 0.6 * reference:
            chin = height
    return chin


def _top(head: Head, character: Character, chin: float) -> float:
    """The top of the skull: hair and hats that are one with the skin are cut off by the head's width and its end bone."""
    top = min(head.span()[1], chin + HEIGHT_OF_WIDTH * head.width)
    if character.rig.has("HeadTop_End"):
        end = float(((character.joint("HeadTop_End") - head.origin) @ head.axes.T)[2])
        if end > chin + head.width:
            top = min(top, end)
    return top


def _ear(head: Head, sign: float, level: float, size: float, measures: dict) -> FacePoint:
    """The middle of what stands out from the side of the head at ear height; else by proportion beside the head joint."""
    heights = np.arange(level - 1.1 * size, level + 0.5 * size, STEP_M)
    depths = np.arange(-0.9 * size, 1.2 * size, STEP_M)
    relief = np.full((len(heights), len(depths)), -head.width)
    for row, height in enumerate(heights):
        for column, depth in enumerate(depths):
            position, _ = head.from_side(sign, depth, height)
            if position is not None:
                relief[row, column] = sign * position[0]
    out = _top_hat(relief, 2 * round(EAR_NARROWER * size / STEP_M / 2) + 1)
    usual = level - measures["ear_below_eyes"] * size, measures["ear_before_head_joint"] * size
    shape = _ear_middle(out, size)
    if shape is None:
        origin, (height, depth) = "proportion", usual
    else:
        origin = "surface"
        height, depth = heights[0] + shape[0] * STEP_M, depths[0] + shape[1] * STEP_M
        # The front of an ear, before its canal, does not stand out.
        depth += EAR_FRONT * size
    position, corners = head.from_side(sign, depth, height)
    if position is None:
        position, corners = head.nearest(np.array((sign * head.width / 2, depth, height)))
    return head.point(origin, position, corners)


def _ear_middle(out: np.ndarray, size: float) -> tuple[float, float] | None:
    """The middle (row, column) of the highest thing that stands out and can be an ear by its size and place."""
    best, highest = None, EAR_RIM * size
    for region in _regions(out > EAR_STANDS_OUT * size):
        rows, columns = np.nonzero(region)
        tall, wide = (np.ptp(x) * STEP_M / size for x in (rows, columns))
        inside = rows.min() > 0 and columns.min() > 0 and columns.max() < out.shape[1] - 1
        if not inside or not (
            EAR_TALL[0] < tall < EAR_TALL[1] and EAR_WIDE[0] < wide < EAR_WIDE[1]
        ):
            continue
        if out[region].max() > highest:
            best, highest = region, out[region].max()
    if best is None:
        return None
    rows, columns = np.nonzero(best)
    return (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2


def _top_hat(relief: np.ndarray, cells: int) -> np.ndarray:
    """What of a relief is narrower than ``cells`` (odd): itself minus its opening by a square (J. Serra, 1982)."""

    def swept(values: np.ndarray, best: Callable[..., np.ndarray], outside: float) -> np.ndarray:
        half = cells // 2
        for axis in (0, 1):
            pad = [(0, 0), (0, 0)]
            pad[axis] = (half, half)
            padded = np.pad(values, pad, constant_values=outside)
            values = best(
                np.lib.stride_tricks.sliding_window_view(padded, cells, axis=axis), axis=-1
            )
        return values

    return relief - swept(swept(relief, np.min, np.inf), np.max, -np.inf)


def _regions(mask: np.ndarray) -> Iterator[np.ndarray]:
    """The regions of a (H, W) bool mask whose pixels touch by their sides, each as a mask."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        padded = np.pad(labels, 1)
        around = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
        grown = np.where(mask, np.maximum.reduce([labels, *around]), 0)
        if (grown == labels).all():
            break
        labels = grown
    for label in np.unique(labels[mask]):
        yield labels == label


def _pieces(vertices: np.ndarray, triangles: np.ndarray) -> np.ndarray:
    """A number for each vertex, the same for all that triangles connect; vertices at one place count as one."""
    _, one = np.unique(np.round(vertices / WELD_M).astype(np.int64), axis=0, return_inverse=True)
    one = one.ravel()
    corners = one[triangles]
    label = np.arange(one.max() + 1)
    while True:
        lowest = label[corners].min(axis=1)
        new = label.copy()
        for i in range(3):
            np.minimum.at(new, corners[:, i], lowest)
        new = new[new]  # follow the pointers, so that long chains shrink fast
        if (new == label).all():
            return label[one]
        label = new


def nearest_point(vertices: np.ndarray, triangles: np.ndarray, target: np.ndarray) -> FacePoint:
    """The point of a surface that is nearest to ``target`` (3,); vertices (V, 3), triangles (T, 3)."""
    tree = BVHTree.FromPolygons(vertices.tolist(), triangles.tolist())
    position, _, index, _ = tree.find_nearest(mathutils.Vector(target))
    return _on_triangle("surface", np.array(position), vertices, triangles[index])


def _on_triangle(
    origin: str, position: np.ndarray, points: np.ndarray, corners: np.ndarray
) -> FacePoint:
    weights = _barycentric(position, points[corners])
    return FacePoint(origin, tuple(int(c) for c in corners), tuple(float(w) for w in weights))


def _barycentric(point: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Weights (3,) of ``corners`` (3, 3) that give ``point``."""
    a, b = corners[1] - corners[0], corners[2] - corners[0]
    solution, *_ = np.linalg.lstsq(np.stack([a, b], axis=1), point - corners[0], rcond=None)
    return np.array([1 - solution.sum(), *solution])
