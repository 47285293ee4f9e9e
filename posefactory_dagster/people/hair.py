"""Hair, brows and lashes as ribbons that grow from the skin: strands that follow a style, kept off the head.

World frame of the rest pose: metres, z up, the person faces -y. S strands of N points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posefactory_dagster.people.body import BODY_VERTICES, Body, topology
from posefactory_dagster.people.mesh import (
    Piece,
    Shell,
    Skin,
    compact,
    cut,
    refine,
    triangulate,
    vertex_normals,
    waves,
)


@dataclass(frozen=True)
class Style:
    """How hair grows; lengths in metres.

    Attributes:
        strands: how many. length: of most strands. points: of each strand.
        width: of a ribbon. lift: how far strands stand off the head. stiff: 0 hangs at once, 1 stands.
        curl: radius of curls. part: side of the parting, -1 to 1; None combs back. gather: where strands are tied.
        tail: length of what hangs from the tie; 0 winds a bun. fringe: whether hair falls over the forehead.
    """

    strands: int
    length: float
    points: int = 7
    width: float = 0.0032
    lift: float = 0.010
    stiff: float = 0.4
    curl: float = 0.0
    part: float | None = 0.35
    gather: bool = False
    tail: float = 0.0
    fringe: bool = False
    low: float = 0.0


STYLES = {
    "buzz": Style(2600, 0.008, points=2, width=0.0022, lift=0.003, stiff=0.8, part=None),
    "short": Style(2600, 0.045, points=4, lift=0.007, stiff=0.55, part=0.4),
    "crop": Style(2400, 0.065, points=5, lift=0.012, stiff=0.75, part=None),
    "afro": Style(2700, 0.085, points=6, width=0.0040, lift=0.05, stiff=1.0, curl=0.009, part=None),
    "bob": Style(1900, 0.23, points=9, width=0.0040, lift=0.013, stiff=0.10, part=0.25, fringe=True),
    "long": Style(1800, 0.46, points=10, width=0.0050, lift=0.013, stiff=0.06, part=0.15),
    "wavy": Style(1800, 0.36, points=12, width=0.0050, lift=0.020, stiff=0.08, curl=0.010, part=0.3),
    "bun": Style(1700, 0.20, points=8, width=0.0036, lift=0.005, gather=True, part=None),
    "ponytail": Style(1700, 0.20, points=8, width=0.0036, lift=0.005, gather=True, tail=0.30, part=None),
}  # fmt: skip


def brow_strength(points: np.ndarray, eyes: np.ndarray, apart: float) -> np.ndarray:
    """(P,) 0 to 1: how much of a brow each place on a face is.

    Args:
        points: (P, 3). eyes: (3,) the middle between the eyes. apart: the distance between their centres, metres.

    A brow begins over the inner corner of the eye, peaks over its outer edge and ends beyond its outer corner (proportions of
    L. G. Farkas, Anthropometry of the Head and Face, 1994, by eye).
    """
    side = np.abs(points[:, 0]) / apart
    height = (points[:, 2] - eyes[2]) / apart
    middle = np.interp(side, [0.16, 0.30, 0.56, 0.84], [0.325, 0.365, 0.40, 0.315])
    half = np.interp(side, [0.12, 0.20, 0.50, 0.86], [0.045, 0.062, 0.050, 0.018])
    ends = np.clip((side - 0.15) / 0.05, 0, 1) * np.clip((0.86 - side) / 0.06, 0, 1)
    front = points[:, 1] < eyes[1]
    return np.clip(1.6 - np.abs(height - middle) / half, 0, 1) * ends * front


class Scalp:
    """Where hair grows on a body: the head over a hairline, with normals."""

    def __init__(self, body: Body) -> None:
        self.body = body
        self.scale = body.height / 1.7
        shape = topology()
        self.faces = triangulate(shape.faces["body"])
        self.skin = Skin(body.vertices, self.faces)
        self.normals = vertex_normals(body.vertices, self.faces)
        left, right = (
            body.vertices[14598:14670].mean(axis=0),
            body.vertices[14670:14742].mean(axis=0),
        )
        self.eyes = (left + right) / 2
        self.apart = float(np.linalg.norm(left - right))
        head = body.vertices[:BODY_VERTICES]
        near = head[:, 2] > self.eyes[2]
        self.top = float(head[:, 2].max())
        self.centre = np.array((0.0, (head[near][:, 1].min() + head[near][:, 1].max()) / 2, self.eyes[2] + 0.35 * (self.top - self.eyes[2])))  # fmt: skip
        self.back = float(head[near][:, 1].max())
        self.front = float(head[near][:, 1].min())

    def depth(self, points: np.ndarray) -> np.ndarray:
        """0 at the forehead to 1 at the back of the head."""
        return (points[:, 1] - self.front) / (self.back - self.front)

    def grows(self, points: np.ndarray, low: float = 0.0) -> np.ndarray:
        """Metres over the hairline, positive where hair grows; points near the head (P, 3)."""
        depth = np.clip(self.depth(points), 0, 1)
        unit = self.apart
        # From the forehead over the temples and round the ears down to the nape, heights over the eyes in pupil distances.
        line = np.interp(depth, [0.0, 0.12, 0.24, 0.36, 0.44, 0.58, 0.66, 0.80, 1.0], [1.05, 0.98, 0.80, 0.25, 0.05, 0.10, -0.75, -1.15, -1.25])  # fmt: skip
        return (points[:, 2] - self.eyes[2]) - (line - low) * unit

    def roots(
        self, count: int, chance: np.random.Generator, low: float = 0.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Random places on the scalp, evenly by area: points (S, 3) and normals (S, 3)."""
        triangles = self.faces
        centres = self.body.vertices[triangles].mean(axis=1)
        ears = self._ears(centres)
        grows = (self.grows(centres, low) > 0) & (centres[:, 2] > self.eyes[2] - 1.6 * self.apart) & ~ears  # fmt: skip
        grows &= np.abs(centres[:, 0]) < 1.6 * self.apart
        chosen = triangles[grows]
        a, b, c = (self.body.vertices[chosen[:, i]] for i in range(3))
        areas = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        index = chance.choice(len(chosen), size=count, p=areas / areas.sum())
        u, v = chance.random(count), chance.random(count)
        over = u + v > 1
        u, v = np.where(over, 1 - u, u), np.where(over, 1 - v, v)
        weights = np.stack([1 - u - v, u, v], axis=1)[..., None]
        points = (self.body.vertices[chosen[index]] * weights).sum(axis=1)
        normals = (self.normals[chosen[index]] * weights).sum(axis=1)
        return points, normals / np.linalg.norm(normals, axis=1, keepdims=True)

    def _ears(self, points: np.ndarray) -> np.ndarray:
        """What stands out at the sides at the height of the eyes and below."""
        depth = self.depth(points)
        return (
            (np.abs(points[:, 0]) > 1.17 * self.apart) & (points[:, 2] < self.eyes[2] + 0.35 * self.apart)
            & (depth > 0.36) & (depth < 0.68)
        )  # fmt: skip

    def weights(self, points: np.ndarray) -> np.ndarray:
        """(P, B): hair moves with the head, and what hangs below the neck with the chest."""
        bones = [b.removeprefix("mixamorig:") for b in self.body.bones]
        neck = self.body.head("Neck")[2]
        share = np.clip((neck + 0.03 - points[:, 2]) / 0.16, 0, 0.8)
        weights = np.zeros((len(points), len(bones)))
        weights[:, bones.index("Head")] = 1 - share
        weights[:, bones.index("Spine2")] = share
        return weights


def hair(
    scalp: Scalp, name: str, material: str, chance: np.random.Generator, hat: bool = False
) -> list[Piece]:
    """The pieces of a hair style: a cap of colour on the scalp, and strands.

    Args:
        hat: whether a hat covers the upper head, so that only what hangs below is made.
    """
    if name == "bald":
        return []
    style = STYLES[name]
    scale = scalp.scale
    roots, normals = scalp.roots(style.strands, chance, style.low)
    if hat:
        below = roots[:, 2] < scalp.eyes[2] + 0.7 * scalp.apart
        roots, normals = roots[below], normals[below]
    strands = _gathered(scalp, style, roots, normals, chance) if style.gather else _hanging(scalp, style, roots, normals, chance)  # fmt: skip
    pieces = [_ribbons(scalp, "hair", "hair", material, strands, style.width * scale, chance)]
    if not hat:
        pieces.append(_cap(scalp, material, 0.0015 * scale, chance, style.low))
    if style.gather:
        tie = _tie(scalp)
        if style.tail:
            pieces.append(_ribbons(scalp, "tail", "hair", material, _tail(tie, style, scale, chance), style.width * scale, chance))  # fmt: skip
        else:
            pieces.append(_ribbons(scalp, "knot", "hair", material, _knot(tie, scale, chance), style.width * scale, chance))  # fmt: skip
    return pieces


def _hanging(scalp: Scalp, style: Style, roots: np.ndarray, normals: np.ndarray, chance: np.random.Generator) -> np.ndarray:  # fmt: skip
    """Strands (S, N, 3) that leave the scalp, are combed away from the parting, and fall."""
    count, scale = len(roots), scalp.scale
    length = style.length * scale * chance.uniform(0.85, 1.05, count)
    # Sides and back of short hair are shorter than its top.
    if style.length < 0.1 and style.curl == 0:
        top = np.clip((roots[:, 2] - scalp.eyes[2]) / (scalp.top - scalp.eyes[2]), 0, 1)
        length *= 0.40 + 0.60 * top**1.5
    step = length / (style.points - 1)
    if style.part is None:
        comb = np.tile(np.array((0.0, 0.9, 0.25)), (count, 1))
        if style.stiff > 0.7 and style.length < 0.1:  # a crop stands up in front
            comb = np.tile(np.array((0.15, -0.15, 0.9)), (count, 1))
        comb[:, 0] += 0.5 * normals[:, 0]
    else:
        side = np.where(roots[:, 0] > style.part * 0.5 * scalp.apart, 1.0, -1.0)
        # The parting ends at the crown; behind it hair falls straight.
        side = side * np.clip(1.5 - 1.6 * scalp.depth(roots), 0.0, 1.0)
        forward = np.where(
            roots[:, 1] < scalp.centre[1] - 0.02, -0.55 if style.fringe else 0.15, 0.35
        )
        comb = np.stack([0.9 * side, forward, np.full(count, 0.05)], axis=1)
    clump = 0.25 * np.stack([waves(roots, chance, 0.03 * scale) for _ in range(3)], axis=1)
    points = [roots]
    direction = normals * (0.35 + style.stiff) + 0.5 * comb + clump
    for k in range(1, style.points):
        share = k / (style.points - 1)
        # Metres from the root tell how far the comb reaches: long hair falls after a hand's breadth.
        reach = share * style.length / 0.10
        fall = (1 - style.stiff) * np.array((0.0, 0.0, -1.6)) * min(1.0, 0.30 + reach)
        aim = (
            style.stiff * normals
            + np.exp(-1.5 * reach) * 0.75 * comb * (1 - 0.5 * style.stiff)
            + fall
        )
        direction = 0.5 * direction + 0.7 * aim + 0.35 * clump * (1 - 0.5 * share)
        direction /= np.linalg.norm(direction, axis=1, keepdims=True)
        ahead = points[-1] + step[:, None] * direction
        off = style.lift * scale * min(1.0, 2.5 * share) * (0.55 + 0.45 * np.abs(np.sin(37.0 * roots[:, 0] + 91.0 * roots[:, 2])))  # fmt: skip
        ahead = scalp.skin.keep_out(ahead, 0.002 * scale + off)
        # Hair before the face is combed beside it.
        if not style.fringe or style.length > 0.15:
            below = (ahead[:, 2] < scalp.eyes[2] + 0.85 * scalp.apart) & (
                ahead[:, 1] < scalp.centre[1] - 0.02
            )
            want = 1.18 * scalp.apart
            sign = np.where(ahead[:, 0] >= 0, 1.0, -1.0)
            narrow = below & (np.abs(ahead[:, 0]) < want)
            ahead[:, 0] = np.where(
                narrow, sign * (0.4 * np.abs(ahead[:, 0]) + 0.6 * want), ahead[:, 0]
            )
        points.append(ahead)
    strands = np.stack(points, axis=1)
    if style.curl:
        strands = _curled(strands, style.curl * scale, chance)
    return strands


def _curled(strands: np.ndarray, radius: float, chance: np.random.Generator) -> np.ndarray:
    """Strands wound around where they were; neighbours wind alike."""
    count, points = strands.shape[:2]
    turns = np.linspace(0, 1, points)[None, :] * chance.uniform(2.0, 3.2, (count, 1)) * 2 * np.pi
    phase = 2.5 * waves(strands[:, 0], chance, 0.06)[:, None] + chance.uniform(-0.5, 0.5, (count, 1))  # fmt: skip
    grow = np.minimum(1.0, np.linspace(0, 3, points))[None, :]
    along = strands[:, -1] - strands[:, 0]
    along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-9)
    one = np.cross(along, (0.31, 0.77, 0.55))
    one /= np.maximum(np.linalg.norm(one, axis=1, keepdims=True), 1e-9)
    two = np.cross(along, one)
    out = np.cos(turns + phase)[..., None] * one[:, None] + np.sin(turns + phase)[..., None] * two[:, None]  # fmt: skip
    return strands + radius * grow[..., None] * out


def _tie(scalp: Scalp) -> np.ndarray:
    """(3,) where hair is tied: behind and a little above the ears."""
    return np.array((0.0, scalp.back + 0.012 * scalp.scale, scalp.eyes[2] + 0.55 * scalp.apart))


def _gathered(scalp: Scalp, style: Style, roots: np.ndarray, normals: np.ndarray, chance: np.random.Generator) -> np.ndarray:  # fmt: skip
    """Strands (S, N, 3) along the scalp to the tie."""
    tie = _tie(scalp)
    points = [roots]
    ends = tie + 0.012 * scalp.scale * chance.normal(size=roots.shape)
    for k in range(1, style.points):
        share = k / (style.points - 1)
        ahead = points[-1] + (ends - points[-1]) / (style.points - k)
        ahead = scalp.skin.keep_out(ahead, (0.003 + style.lift * np.sin(np.pi * share) * 0.6) * scalp.scale)  # fmt: skip
        points.append(ahead)
    return np.stack(points, axis=1)


def _tail(tie: np.ndarray, style: Style, scale: float, chance: np.random.Generator) -> np.ndarray:
    """Strands (S, N, 3) that hang from the tie in a bundle."""
    count, points = 500, 10
    spread = chance.normal(size=(count, 2)) * 0.013 * scale
    length = style.tail * scale * chance.uniform(0.75, 1.0, count)
    share = np.linspace(0, 1, points)
    out = 0.075 * scale * np.sin(np.minimum(share * 2.2, np.pi / 2))
    rows = np.zeros((count, points, 3))
    wide = 0.55 + 1.1 * np.sin(np.pi * np.minimum(share * 0.8 + 0.1, 1.0))
    rows[..., 0] = spread[:, :1] * wide * 1.2
    rows[..., 1] = out + spread[:, 1:] * wide
    rows[..., 2] = -length[:, None] * share**1.25
    rows[..., 2] += 0.02 * scale * np.sin(np.minimum(share * 5, np.pi))
    return tie + rows


def _knot(tie: np.ndarray, scale: float, chance: np.random.Generator) -> np.ndarray:
    """Strands (S, N, 3) wound to a ball behind the head."""
    count, points = 420, 14
    radius = 0.036 * scale * chance.uniform(0.82, 1.0, count)
    tilt = 0.35 * chance.normal(size=count)
    start = chance.uniform(0, 2 * np.pi, count)
    high = chance.uniform(-1, 1, count)
    angle = start[:, None] + np.linspace(0, 2.6, points)[None, :]
    level = high[:, None] + tilt[:, None] * np.linspace(-0.5, 0.5, points)[None, :]
    level = np.clip(level, -0.97, 0.97)
    flat = np.sqrt(1 - level**2)
    rows = np.stack([flat * np.cos(angle), level * 0.8, flat * np.sin(angle)], axis=-1)
    return tie + (0, 0.028 * scale, 0) + radius[:, None, None] * rows


def _ribbons(scalp: Scalp, name: str, role: str, material: str, strands: np.ndarray, width: float, chance: np.random.Generator) -> Piece:  # fmt: skip
    """Flat strips along strands (S, N, 3), narrower at their tips, that face away from the head."""
    count, points = strands.shape[:2]
    along = np.gradient(strands, axis=1)
    along /= np.maximum(np.linalg.norm(along, axis=2, keepdims=True), 1e-9)
    away = strands - scalp.centre
    away /= np.maximum(np.linalg.norm(away, axis=2, keepdims=True), 1e-9)
    across = np.cross(along, away)
    across /= np.maximum(np.linalg.norm(across, axis=2, keepdims=True), 1e-9)
    taper = np.interp(np.linspace(0, 1, points), [0, 0.15, 0.7, 1], [0.7, 1.0, 0.9, 0.25])
    half = 0.5 * width * taper[None, :, None] * chance.uniform(0.7, 1.3, (count, 1, 1))
    sides = np.stack([strands - half * across, strands + half * across], axis=2)
    vertices = sides.reshape(-1, 3)
    index = np.arange(count * points * 2).reshape(count, points, 2)
    a, b, c, d = index[:, :-1, 0], index[:, :-1, 1], index[:, 1:, 0], index[:, 1:, 1]
    triangles = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])  # fmt: skip
    column = chance.random(count)
    uvs = np.empty((count, points, 2, 2))
    uvs[..., 0] = column[:, None, None] + np.array((0.0, 0.012))[None, None, :]
    uvs[..., 1] = np.linspace(0.02, 0.98, points)[None, :, None]
    normals = np.cross(across, along)
    # Shading by the bundle and not by the strand: half of it follows the head.
    normals = 0.45 * normals + 0.55 * away
    normals /= np.linalg.norm(normals, axis=2, keepdims=True)
    return Piece(
        name, role, material, vertices, triangles, uvs.reshape(-1, 2), scalp.weights(vertices), None,
        np.repeat(normals, 2, axis=1).reshape(-1, 3),
    )  # fmt: skip


def _cap(
    scalp: Scalp, material: str, lift: float, chance: np.random.Generator, low: float
) -> Piece:
    """The scalp in the colour of the hair, just above the skin, with an uneven edge."""
    weights = scalp.body.dense_weights
    shell = compact(Shell(scalp.body.vertices, scalp.faces[(scalp.grows(scalp.body.vertices[scalp.faces].mean(axis=1), low) > -0.02)], {"weights": weights}))  # fmt: skip

    def value(shell: Shell) -> np.ndarray:
        ragged = 0.003 * scalp.scale * waves(shell.vertices, np.random.default_rng(5), 0.012)
        far = (shell.vertices[:, 2] < scalp.eyes[2] - 1.6 * scalp.apart) | scalp._ears(
            shell.vertices
        )
        far |= np.abs(shell.vertices[:, 0]) > 1.6 * scalp.apart
        return np.where(far, 0.05, 0.003 - scalp.grows(shell.vertices, low) + ragged)

    shell = cut(refine(shell), value)
    normals = shell.normals()
    points = shell.vertices + lift * normals
    uvs = np.stack([np.arctan2(points[:, 0], points[:, 1]) * 2.0, 0.05 + 0 * points[:, 2]], axis=1)
    return Piece("cap", "hair", material, points, shell.triangles, uvs, scalp.weights(points), None, normals)  # fmt: skip


def brows(scalp: Scalp, material: str, chance: np.random.Generator) -> Piece:
    """Short hairs where the mesh has its brows."""
    near = np.abs(scalp.body.vertices[scalp.faces].mean(axis=1) - scalp.eyes).max(axis=1) < scalp.apart  # fmt: skip
    faces = scalp.faces[near]
    corners = scalp.body.vertices[faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)  # fmt: skip
    index = chance.choice(len(faces), 12000, p=areas / areas.sum())
    weights = chance.dirichlet((1, 1, 1), len(index))[..., None]
    roots = (corners[index] * weights).sum(axis=1)
    normals = (scalp.normals[faces[index]] * weights).sum(axis=1)
    grows = chance.random(len(roots)) < brow_strength(roots, scalp.eyes, scalp.apart)
    roots, normals = roots[grows][:420], normals[grows][:420]
    side = np.sign(roots[:, :1])
    direction = np.concatenate([0.85 * side, 0.10 * np.ones_like(side), 0.25 - 0.35 * np.abs(roots[:, :1]) / scalp.apart], axis=1)  # fmt: skip
    direction += 0.25 * normals + 0.18 * chance.normal(size=roots.shape)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    length = 0.0075 * scalp.scale * chance.uniform(0.7, 1.2, (len(roots), 1))
    strands = np.stack([roots + normals * 0.0006, roots + normals * 0.0014 + 0.5 * length * direction, roots + normals * 0.0010 + length * direction], axis=1)  # fmt: skip
    return _ribbons(scalp, "brows", "brows", material, strands, 0.0011 * scalp.scale, chance)


def lashes(scalp: Scalp, material: str) -> Piece:
    """The lashes of MakeHuman's helper geometry."""
    shape = topology()
    groups = [g for g in shape.faces if "eyelashes" in g]
    faces = triangulate(np.concatenate([shape.faces[g] for g in groups]))
    used, inverse = np.unique(faces, return_inverse=True)
    points = scalp.body.vertices[used]
    triangles = inverse.reshape(-1, 3)
    uvs = np.tile((0.5, 0.6), (len(points), 1))
    return Piece("lashes", "lashes", material, points, triangles, uvs, scalp.weights(points), None, vertex_normals(points, triangles))  # fmt: skip
