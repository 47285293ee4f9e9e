"""Garments, shoes and hats built from the helper geometry of the body: cut, loosened, folded, hemmed.

The tights helper is a layer over the skin from neck to toes, the skirt helper a cone from the waist to the ankles; both move
with every body and have skin weights. World frame of the rest pose: metres, z up, the person faces -y.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial import ConvexHull, cKDTree

from posefactory_dagster.people.body import BODY_VERTICES, SKIRT, TIGHTS, Body, topology
from posefactory_dagster.people.mesh import (
    Piece,
    Shell,
    Skin,
    boundary_edges,
    compact,
    cut,
    divide,
    refine,
    smooth,
    split_at_seams,
    thicken,
    triangulate,
    unwrap_around,
    waves,
    with_strips,
)

#: Metres that one tile of a fabric's texture spans.
TILE = 0.4
#: Skin is taken away where a garment covers it by more than this, measured from its hem, metres.
COVER_MARGIN = 0.035
#: The same for a garment below another one; trousers and skirts keep up to the waist, as hems of tops rise when people bend.
MARGIN_BELOW, MARGIN_BELOW_TOPS = 0.11, 0.08
#: By how much inner garments are drawn in below outer ones, how far outside of the rim that begins, and over which length it grows, metres.
DRAWN_IN, DRAWN_IN_FROM, DRAWN_IN_WITHIN = 0.012, 0.02, 0.025
#: So far inside of the rim no skin is left, and waistbands go in by so much more, growing over this length, metres.
SUNK_FROM, SUNK, SUNK_WITHIN = 0.045, 0.015, 0.02
#: How much of the legs' hold on hems of tops, and on skirts, is the hips'. What is worn below a top goes with it, from so far outside of its
#: hem on more and more, metres.
HANGING_TOPS, HANGING_SKIRTS, HANGING_WITHIN = 0.25, 0.2, 0.04


@dataclass(frozen=True)
class Cut:
    """How a garment is cut; lengths in metres, limbs in parts: 0 shoulder or hip, 1 elbow or knee, 2 wrist or ankle.

    Attributes:
        top: where it ends above: height over the neck joint; None at the waist.
        scoop: how much lower the neckline lies in front, per metre towards the front.
        sleeve: end of the sleeves; None without arms.
        hem: where a top ends below, over the hip joints; None with legs.
        leg: end of the legs; None without.
        ease: distance from the skin. flare: more of it towards the end of the legs. loose: steps of smoothing.
        fold: height of folds. layer: 0 next to the skin; outer garments have larger ones.
        collar: height of a standing collar.
    """

    top: float | None
    scoop: float = 1.0
    sleeve: float | None = None
    hem: float | None = None
    leg: float | None = None
    ease: float = 0.008
    flare: float = 0.0
    loose: int = 8
    fold: float = 0.002
    layer: int = 1
    collar: float = 0.0


CUTS = {
    "t_shirt": Cut(top=0.035, scoop=0.9, sleeve=0.62, hem=-0.03, ease=0.013, loose=14, fold=0.0030, layer=2),
    "tank_top": Cut(top=0.010, scoop=1.3, sleeve=0.02, hem=-0.01, ease=0.008, loose=10, fold=0.0022, layer=2),
    "shirt": Cut(top=0.050, scoop=0.7, sleeve=1.93, hem=-0.05, ease=0.015, loose=14, fold=0.0036, layer=2, collar=0.028),
    "sweater": Cut(top=0.050, scoop=0.6, sleeve=1.93, hem=-0.02, ease=0.019, loose=20, fold=0.0038, layer=3),
    "hoodie": Cut(top=0.048, scoop=0.6, sleeve=1.95, hem=-0.04, ease=0.023, loose=24, fold=0.0048, layer=3, collar=0.05),
    "jacket": Cut(top=0.052, scoop=0.7, sleeve=1.95, hem=-0.03, ease=0.025, loose=20, fold=0.0044, layer=4, collar=0.045),
    "coat": Cut(top=0.052, scoop=0.8, sleeve=1.97, hem=-0.06, ease=0.028, loose=24, fold=0.0040, layer=4, collar=0.06),
    "dress": Cut(top=0.015, scoop=1.2, sleeve=0.42, hem=0.05, ease=0.008, loose=12, fold=0.0020, layer=2),
    "trousers": Cut(top=None, leg=1.97, ease=0.009, flare=0.022, loose=16, fold=0.0036, layer=1),
    "jeans": Cut(top=None, leg=1.96, ease=0.007, flare=0.012, loose=10, fold=0.0034, layer=1),
    "leggings": Cut(top=None, leg=1.88, ease=0.003, loose=4, fold=0.0006, layer=1),
    "shorts": Cut(top=None, leg=0.80, ease=0.012, flare=0.030, loose=14, fold=0.0034, layer=1),
}  # fmt: skip
#: Skirts and the lower part of dresses and coats: end along the leg, and distance from the skin at the waist.
SKIRTS = {
    "skirt": (0.95, 0.008),
    "long_skirt": (1.80, 0.008),
    "dress": (0.98, 0.012),
    "coat": (0.90, 0.034),
}
#: How high shoes reach (along the shank from the sole, metres), how thick their soles and walls are.
SHOES = {
    "sneakers": (0.085, 0.030, 0.007),
    "shoes": (0.075, 0.022, 0.005),
    "boots": (0.21, 0.032, 0.009),
    "flats": (0.050, 0.012, 0.003),
    "high_tops": (0.135, 0.028, 0.008),
}


@dataclass(frozen=True)
class _Part:
    """One surface of a garment: ``how`` it is cut, None for a skirt; ``layer`` from the skin outwards."""

    name: str
    kind: str
    material: str
    how: Cut | None
    layer: float


class Tailor:
    """Fits garments to one body."""

    def __init__(self, body: Body, chance: np.random.Generator) -> None:
        self.body = body
        self._chance = chance
        self._scale = body.height / 1.7
        shape = topology()
        self.skin = Skin(body.vertices, triangulate(shape.faces["body"]))
        self.dense = _filled(body.dense_weights, body.vertices)
        joints = {n: body.head(n) for n in ("LeftArm", "LeftForeArm", "LeftHand", "RightArm", "RightForeArm", "RightHand", "LeftUpLeg", "LeftLeg", "LeftFoot", "RightUpLeg", "RightLeg", "RightFoot", "Neck", "Spine", "Spine2", "Head")}  # fmt: skip
        self._joints = joints
        self._hip = (joints["LeftUpLeg"][2] + joints["RightUpLeg"][2]) / 2
        self._neck = joints["Neck"]
        self.waist = self._hip + 0.12 * self._scale
        self._where = self._fields(body.vertices)

    def _fields(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Where vertices are on limbs: ``arm`` and ``leg`` in parts, ``arm_weight``, ``leg_side`` (1 left, -1 right, 0 trunk)."""
        bones = [b.removeprefix("mixamorig:") for b in self.body.bones]
        arm_bones = [i for i, b in enumerate(bones) if "Arm" in b or "Hand" in b]
        weight = self.dense[:, arm_bones].sum(axis=1)
        arm = np.full(len(points), -1.0)
        leg = np.zeros(len(points))
        for side in ("Left", "Right"):
            sign = 1.0 if side == "Left" else -1.0
            mine = sign * points[:, 0] > 0
            arm = np.where(mine, self._along(points, side, ("Arm", "ForeArm", "Hand")), arm)
            leg = np.where(mine, self._along(points, side, ("UpLeg", "Leg", "Foot")), leg)
        arm = np.where(weight > 0.02, arm, -1.0)
        return {"arm": arm, "leg": leg, "arm_weight": weight, "weights": self.dense}

    def _along(self, points: np.ndarray, side: str, limb: tuple[str, str, str]) -> np.ndarray:
        """Position along a limb of two bones: 0 to 1 along the first, 1 to 2 along the second, and on beyond."""
        a, b, c = (self._joints[side + j] for j in limb)
        first = (points - a) @ (b - a) / np.dot(b - a, b - a)
        second = 1.0 + (points - b) @ (c - b) / np.dot(c - b, c - b)
        near_first = np.linalg.norm(points - (a + b) / 2, axis=1) < np.linalg.norm(points - (b + c) / 2, axis=1)  # fmt: skip
        return np.where(near_first & (first < 1), first, np.maximum(second, np.where(first < 1, first, 1.0)))  # fmt: skip

    def helper(self, group: str) -> Shell:
        """A group of the mesh as a shell with its fields."""
        triangles = triangulate(topology().faces[group])
        return compact(Shell(self.body.vertices, triangles, self._where))

    def _upper_arm(self) -> float:
        return float(np.linalg.norm(self._joints["LeftForeArm"] - self._joints["LeftArm"]))

    def _thigh(self) -> float:
        return float(np.linalg.norm(self._joints["LeftLeg"] - self._joints["LeftUpLeg"]))

    def inside(self, how: Cut) -> Callable[[Shell], np.ndarray]:
        """The value that is below zero where a garment is: about metres to the nearest of its rims."""
        scale, neck = self._scale, self._neck

        def value(shell: Shell) -> np.ndarray:
            p, f = shell.vertices, shell.fields
            on_arm = f["arm_weight"] > 0.4
            found = np.full(len(p), -1.0)
            if how.top is None:
                found = np.maximum(found, p[:, 2] - self.waist)
            else:
                line = neck[2] + how.top * scale + how.scoop * (p[:, 1] - neck[1])
                found = np.maximum(found, np.where(on_arm, -1.0, (p[:, 2] - line) / (1 + 0.5 * how.scoop)))  # fmt: skip
            if how.sleeve is None:
                # Trunk and legs alone; arms hang beside them.
                found = np.maximum(found, np.where(f["arm_weight"] > 0.02, 1.0, -1.0))
            else:
                beyond = (f["arm"] - how.sleeve) * self._upper_arm()
                found = np.maximum(found, np.where(f["arm_weight"] > 0.02, beyond, -1.0))
            if how.leg is not None:
                found = np.maximum(found, np.where(on_arm, -1.0, (f["leg"] - how.leg) * self._thigh()))  # fmt: skip
            elif how.hem is not None:
                hem = self._hip + how.hem * scale
                found = np.maximum(found, np.where(on_arm, -1.0, hem - p[:, 2]))
            return found

        return value

    def dress(self, worn: Sequence[tuple[str, str]]) -> list[Piece]:
        """The pieces of all garments that are worn together; inner ones are made first and end below outer ones.

        Args:
            worn: kind and material of each garment.
        """
        parts: list[_Part] = []
        for kind, material in worn:
            if kind not in SKIRTS or kind in CUTS:
                parts.append(_Part(kind, kind, material, CUTS[kind], CUTS[kind].layer))
            if kind in SKIRTS:
                # A skirt lies over a shirt that is tucked in, and under a sweater; that of a coat or a dress under its top.
                layer = CUTS[kind].layer - 0.5 if kind in CUTS else 2.5
                name = f"{kind}_skirt" if kind in CUTS else kind
                parts.append(_Part(name, kind, material, None, layer))
        parts.sort(key=lambda part: part.layer)
        shells: list[Shell] = []
        for part in parts:
            below = [self.skin, *(Skin(s.vertices, s.triangles) for s in shells)]
            shells.append(self._skirt(part.kind, below) if part.how is None else self._top_or_legs(part.how, below))  # fmt: skip
        pieces = []
        for number, (part, shell) in enumerate(zip(parts, shells, strict=True)):
            waisted = part.how is None or part.how.top is None
            margin = MARGIN_BELOW_TOPS if waisted else MARGIN_BELOW
            inside = [self._value(outer)(shell) for outer in parts[number + 1 :]]
            hidden = np.any([v < -margin * self._scale for v in inside], axis=0) if inside else np.zeros(len(shell.vertices), bool)  # fmt: skip
            if inside:
                under = -np.min(inside, axis=0)
                shell = self._drawn_in(shell, under)
                if any(outer.how is not None and outer.how.top is not None for outer in parts[number + 1 :]):  # fmt: skip
                    own = HANGING_SKIRTS if part.how is None else 0.0
                    hold = np.clip(1.0 + under / (HANGING_WITHIN * self._scale), 0.0, 1.0)
                    shell = self._hanging(shell, hold * (HANGING_TOPS - own) / (1.0 - own))
            shell = Shell(shell.vertices, shell.triangles[~hidden[shell.triangles].all(axis=1)], shell.fields)  # fmt: skip
            if len(shell.triangles):
                pieces.append(self._finish(compact(shell), part.name, part.material, self._covers(part), part.how))  # fmt: skip
        return pieces

    def _drawn_in(self, shell: Shell, under: np.ndarray) -> Shell:
        """An inner garment, closer to the body where an outer one covers it: in motion the two do not go quite the same way.

        Args:
            under: (V,) how far inside of the outer one's rim it is, metres.
        """
        depth = np.clip(
            (under + DRAWN_IN_FROM * self._scale) / (DRAWN_IN_WITHIN * self._scale), 0.0, 1.0
        )
        points = shell.vertices - (DRAWN_IN * self._scale * depth)[:, None] * shell.normals()
        # Near the rim skin is left: a millimetre above it stays.
        points = self.skin.keep_out(points, 0.001 * self._scale)
        deep = np.clip((under / self._scale - SUNK_FROM) / SUNK_WITHIN, 0.0, 1.0)
        return shell.with_vertices(points - (SUNK * self._scale * deep)[:, None] * shell.normals())

    def _value(self, part: _Part) -> Callable[[Shell], np.ndarray]:
        return self.inside(part.how) if part.how is not None else self._inside_skirt(part.kind)

    def _covers(self, part: _Part) -> np.ndarray:
        """(19158,) bool: the skin that a garment hides for good."""
        mesh = Shell(self.body.vertices, np.empty((0, 3), int), self._where)
        hidden = self._value(part)(mesh) < -COVER_MARGIN * self._scale
        if part.how is None:
            # Legs stay in the lower half of skirts: they are seen from below and when the skirt swings.
            middle = (self._hip + self._skirt_end(part.kind)) / 2
            hidden &= (self._where["arm_weight"] < 0.02) & (self.body.vertices[:, 2] > middle)
        return hidden & (np.arange(len(hidden)) < BODY_VERTICES)

    def _hanging(self, shell: Shell, share: float | np.ndarray) -> Shell:
        """The shell with ``share`` of what the legs hold of it given to the hips: cloth that hangs does not go with each leg.

        Args:
            share: of all vertices, or of each (V,).
        """
        share = np.broadcast_to(share, len(shell.vertices))
        bones = [b.removeprefix("mixamorig:") for b in self.body.bones]
        legs = [i for i, b in enumerate(bones) if "Leg" in b or "Foot" in b or "Toe" in b]
        weights = shell.fields["weights"].copy()
        weights[:, bones.index("Hips")] += share * weights[:, legs].sum(axis=1)
        weights[:, legs] *= 1 - share[:, None]
        return Shell(shell.vertices, shell.triangles, {**shell.fields, "weights": weights})

    def _top_or_legs(self, how: Cut, below: Sequence[Skin]) -> Shell:
        shell = self._loosen(cut(refine(self.helper(TIGHTS)), self.inside(how)), how, below)
        return self._hanging(shell, HANGING_TOPS) if how.top is not None else shell

    def _loosen(self, shell: Shell, how: Cut, below: Sequence[Skin]) -> Shell:
        """Off the skin and what is worn below, smoothed, and folded."""
        f = shell.fields
        ease = np.full(len(shell.vertices), how.ease * self._scale)
        ease = ease + how.flare * self._scale * np.clip(f["leg"], 0, 2) / 2 * (
            f["arm_weight"] < 0.02
        )
        # Sleeves stay narrower at the wrist, where the arm is thin anyway.
        shell = shell.with_vertices(shell.vertices + ease[:, None] * shell.normals())
        shell = shell.with_vertices(smooth(shell, how.loose))
        least = (0.0025 + 0.0045 * how.layer) * self._scale
        for _ in range(2):
            shell = shell.with_vertices(self._over(shell.vertices, below, least))
            shell = shell.with_vertices(smooth(shell, 2))
        rises = self._folds(shell, how.fold * self._scale)
        shell = shell.with_vertices(shell.vertices + rises[:, None] * shell.normals())
        return shell.with_vertices(self._over(shell.vertices, below, 0.7 * least))

    def _over(self, points: np.ndarray, below: Sequence[Skin], least: float) -> np.ndarray:
        """Points kept ``least`` metres off the skin, and 5 mm off garments below."""
        points = below[0].keep_out(points, least)
        for garment in below[1:]:
            points = garment.keep_out(points, 0.005 * self._scale, reach=0.022)
        return points

    def _folds(self, shell: Shell, height: float) -> np.ndarray:
        """(V,) metres: broad waves everywhere, and rings of creases at elbows, knees, crotch and waist."""
        p, f, chance = shell.vertices, shell.fields, self._chance
        broad = waves(p * (1.0, 1.0, 0.45), chance, 0.075)
        bent = p + 0.03 * np.stack([waves(p, chance, 0.2) for _ in range(3)], axis=1)
        creases = waves(bent * (0.55, 0.55, 1.5), chance, 0.055)
        at_elbow = np.exp(-(((f["arm"] - 1.0) / 0.28) ** 2)) * (f["arm_weight"] > 0.3)
        at_knee = np.exp(-(((f["leg"] - 1.05) / 0.18) ** 2)) * (f["arm_weight"] < 0.1)
        at_ankle = np.exp(-(((f["leg"] - 1.9) / 0.12) ** 2)) * (f["arm_weight"] < 0.1)
        at_hip = np.exp(-(((p[:, 2] - self._hip) / (0.07 * self._scale)) ** 2)) * (f["arm_weight"] < 0.1)  # fmt: skip
        at_waist = np.exp(-(((p[:, 2] - self.waist) / (0.10 * self._scale)) ** 2)) * (f["arm_weight"] < 0.1)  # fmt: skip
        where = np.clip(at_elbow + at_knee + at_ankle + 0.8 * at_hip + 0.7 * at_waist, 0, 1)
        rises = height * (0.55 * broad + (0.25 + where) * creases)
        return np.maximum(rises, -0.7 * height)

    def _skirt_end(self, kind: str) -> float:
        """The height at which a skirt ends."""
        end, _ = SKIRTS[kind]
        knee, ankle = self._joints["LeftLeg"][2], self._joints["LeftFoot"][2]
        return float(self._hip + (knee - self._hip) * min(end, 1.0) + (ankle - knee) * max(end - 1.0, 0.0))  # fmt: skip

    def _inside_skirt(self, kind: str) -> Callable[[Shell], np.ndarray]:
        # By height: thighs are nearer to each other than to the cone around them.
        low = self._skirt_end(kind)
        high = self.waist + 0.02 * self._scale

        def value(shell: Shell) -> np.ndarray:
            z = shell.vertices[:, 2]
            found = np.maximum(low - z, z - high)
            return np.where(shell.fields["arm_weight"] > 0.02, 1.0, found)

        return value

    def _skirt(self, kind: str, below: Sequence[Skin]) -> Shell:
        _, ease = SKIRTS[kind]
        shell = cut(refine(self.helper(SKIRT)), self._inside_skirt(kind))
        down = np.clip((self.waist - shell.vertices[:, 2]) / self._thigh(), 0, 2)
        out = (ease + 0.03 * down) * self._scale
        outward = shell.normals() * (1.0, 1.0, 0.0)
        centre = shell.vertices[:, :2].mean(axis=0)
        if np.sum(outward[:, :2] * (shell.vertices[:, :2] - centre), axis=1).mean() < 0:
            outward = -outward
            shell = Shell(shell.vertices, shell.triangles[:, ::-1], shell.fields)
        shell = shell.with_vertices(shell.vertices + out[:, None] * outward)
        shell = shell.with_vertices(smooth(shell, 12))
        # Pleats: waves around, growing downwards.
        angle = np.arctan2(shell.vertices[:, 1] - centre[1], shell.vertices[:, 0] - centre[0])
        count, phase = self._chance.integers(9, 16), self._chance.uniform(0, 6.28)
        pleats = (
            0.010 * self._scale * down * np.sin(count * angle + phase + 0.8 * np.sin(3 * angle))
        )
        shell = shell.with_vertices(shell.vertices + pleats[:, None] * shell.normals())
        shell = shell.with_vertices(self._over(shell.vertices, below, 0.014 * self._scale))
        return self._hanging(shell, HANGING_SKIRTS)

    def _finish(
        self, shell: Shell, name: str, material: str, covers: np.ndarray, how: Cut | None
    ) -> Piece:
        if how is not None and how.collar:
            shell = self._collar(shell, how.collar * self._scale)
        shell = thicken(shell, 0.003 * self._scale)
        part = np.zeros(len(shell.triangles), int)
        if how is not None:
            # Seams between tubes run smoothly, not from corner to corner.
            shell = divide(shell, self._on_arm)
            shell = divide(shell, self._on_leg) if how.leg is not None else shell
            part = self._parts(shell, how)
        axes = self._axes()
        uvs = unwrap_around(shell.vertices, shell.triangles, axes, part, TILE)
        triangles, old, split = split_at_seams(shell.triangles, uvs)
        normals = shell.normals()[old]
        weights = shell.fields["weights"][old]
        weights = weights / weights.sum(axis=1, keepdims=True)
        return Piece(
            name, "garment", material, shell.vertices[old], triangles, split, weights, covers, normals
        )  # fmt: skip

    def _parts(self, shell: Shell, how: Cut) -> np.ndarray:
        """(T,) which tube of a garment a triangle is on: 0 trunk, 1 and 2 arms, 3 and 4 legs."""
        left = shell.vertices[shell.triangles].mean(axis=1)[:, 0] > 0
        arm = self._on_arm(shell)[shell.triangles].mean(axis=1) > 0
        # What has no legs hangs from the trunk, however far down.
        leg = (how.leg is not None) & ~arm & (self._on_leg(shell)[shell.triangles].mean(axis=1) > 0)
        return np.select([arm & left, arm, leg & left, leg], [1, 2, 3, 4], 0)

    def _on_arm(self, shell: Shell) -> np.ndarray:
        """(V,) above zero on arms."""
        return shell.fields["arm_weight"] - 0.5

    def _on_leg(self, shell: Shell) -> np.ndarray:
        """(V,) above zero on legs: metres, below the hip joints and the crotch."""
        along = (shell.fields["leg"] - 0.12) * self._thigh()
        return np.minimum(along, self._hip - 0.06 * self._scale - shell.vertices[:, 2])

    def _axes(self) -> list[tuple[np.ndarray, np.ndarray]]:
        j = self._joints
        low = (j["LeftUpLeg"] + j["RightUpLeg"]) / 2
        return [
            (np.array((0.0, low[1], self._hip)), np.array((0.0, low[1], self._neck[2]))),
            (j["LeftArm"], j["LeftHand"]),
            (j["RightArm"], j["RightHand"]),
            (j["LeftFoot"], j["LeftUpLeg"]),
            (j["RightFoot"], j["RightUpLeg"]),
        ]

    def _collar(self, shell: Shell, height: float) -> Shell:
        """A band that stands on the neckline and leans outwards."""
        rim = boundary_edges(shell.triangles)
        at_neck = (shell.vertices[rim].mean(axis=1)[:, 2] > self._neck[2] - 0.12 * self._scale) & (
            shell.fields["arm_weight"][rim].max(axis=1) < 0.3
        )
        rim = rim[at_neck]
        if not len(rim):
            return shell
        users, slots = np.unique(rim, return_inverse=True)
        slots = slots.reshape(-1, 2)
        centre = shell.vertices[users].mean(axis=0)
        away = (shell.vertices[users] - centre) * (1.0, 1.0, 0.0)
        away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-9)
        up = shell.vertices[users] + np.array((0, 0, height)) + 0.10 * height * away
        over = up + 0.35 * height * away - np.array((0, 0, 0.55 * height))
        return with_strips(shell, rim, users, slots, up, over)

    def shoes(self, kind: str, material: str, sole_material: str) -> list[Piece]:
        """A pair of shoes as two pieces: uppers and soles. Soles reach below z = 0."""
        high, thick, wall = (v * self._scale for v in SHOES[kind])

        def value(shell: Shell) -> np.ndarray:
            f = shell.fields
            out = shell.vertices[:, 2] - high
            return np.where(f["arm_weight"] > 0.02, 1.0, out)

        foot = cut(refine(self.helper(TIGHTS)), value)
        foot = foot.with_vertices(foot.vertices + wall * foot.normals())
        foot = foot.with_vertices(smooth(foot, 10))
        foot = foot.with_vertices(self.skin.keep_out(foot.vertices, 0.6 * wall))
        points = foot.vertices.copy()
        # A flat sole: what is lower than the ball of the foot rests on it.
        level = 0.014 * self._scale
        points[:, 2] = np.where(points[:, 2] < level, np.maximum(points[:, 2], -0.001) * 0.2, points[:, 2])  # fmt: skip
        foot = foot.with_vertices(points)
        hidden = (self.body.vertices[:, 2] < high - 0.6 * COVER_MARGIN) & (self._where["arm_weight"] < 0.02)  # fmt: skip
        upper = self._finish(foot, kind, material, hidden, None)
        sole = self._soles(foot, thick, kind, sole_material)
        return [Piece(upper.name, "shoes", material, upper.vertices, upper.triangles, upper.uvs, upper.weights, hidden, upper.normals), sole]  # fmt: skip

    def _soles(self, foot: Shell, thick: float, kind: str, material: str) -> Piece:
        """Two slabs below the shoes, their outline the convex hull of what is low."""
        vertices: list[np.ndarray] = []
        triangles: list[tuple[int, int, int]] = []
        weights: list[np.ndarray] = []
        for sign in (1.0, -1.0):
            low = (foot.vertices[:, 0] * sign > 0) & (foot.vertices[:, 2] < 0.035 * self._scale)
            points = foot.vertices[low]
            hull = points[ConvexHull(points[:, :2]).vertices][:, :2]
            ring = _even(hull, 48)
            centre = ring.mean(axis=0)
            near = [np.argmin(np.linalg.norm(points[:, :2] - p, axis=1)) for p in ring]
            own = foot.fields["weights"][low][near]
            rows = [(1.020, 0.017 * self._scale), (1.060, 0.012 * self._scale), (1.060, -0.7 * thick), (1.01, -thick)]  # fmt: skip
            base = sum(len(v) for v in vertices)
            for grown, z in rows:
                rocker = (
                    0.012
                    * self._scale
                    * np.clip((centre[1] - ring[:, 1]) / np.ptp(ring[:, 1]) * 2, 0, 1) ** 3
                )
                up = rocker if z < 0 else 0.0
                vertices.append(np.column_stack([centre + (ring - centre) * grown, z + up * np.ones(len(ring))]))  # fmt: skip
                weights.append(own)
            n = len(ring)
            for row in range(len(rows) - 1):
                for i in range(n):
                    a, b = base + row * n + i, base + row * n + (i + 1) % n
                    triangles += [(a, a + n, b), (b, a + n, b + n)]
            last = base + (len(rows) - 1) * n
            triangles += [(last, last + i + 1, last + i) for i in range(1, n - 1)]
        points = np.concatenate(vertices)
        faces = np.array(triangles)
        corner = points[faces]
        uvs = (
            np.stack([corner[..., 0] + corner[..., 1], corner[..., 2] + corner[..., 1]], axis=-1)
            / TILE
        )
        faces, old, split = split_at_seams(faces, uvs)
        shell = Shell(points, np.array(triangles), {})
        normals = shell.normals()[old]
        outward = np.sum(normals[:, 2] * (points[old][:, 2] < -0.9 * thick)) < 0
        if not outward:
            faces, normals = faces[:, ::-1], -normals
        return Piece(f"{kind}_soles", "shoes", material, points[old], faces, split, np.concatenate(weights)[old], None, normals)  # fmt: skip

    def hat(self, kind: str, material: str) -> Piece:
        """A hat over the upper part of the head; hair below it must be short there."""
        faces = triangulate(topology().faces["body"])
        head = compact(Shell(self.body.vertices, faces, self._where))
        eyes = self.body.vertices[14598:14742]
        brow = eyes[:, 2].max() + 0.030 * self._scale
        middle = self._joints["Head"][1]

        def value(shell: Shell) -> np.ndarray:
            line = brow - 0.25 * (shell.vertices[:, 1] - (middle - 0.06))
            return line - shell.vertices[:, 2]

        shell = cut(refine(cut(head, value)), value)
        ease = (0.016 if kind == "beanie" else 0.014) * self._scale
        shell = shell.with_vertices(shell.vertices + ease * shell.normals())
        shell = shell.with_vertices(smooth(shell, 20))
        shell = shell.with_vertices(self.skin.keep_out(shell.vertices, 0.8 * ease))
        if kind == "beanie":
            ribs = 0.0012 * np.sin(60 * np.arctan2(shell.vertices[:, 0], shell.vertices[:, 1] - middle))  # fmt: skip
            low = np.clip(1 - (shell.vertices[:, 2] - brow) / (0.05 * self._scale), 0, 1)
            shell = shell.with_vertices(shell.vertices + ((ribs + 0.005 * low) * self._scale)[:, None] * shell.normals())  # fmt: skip
        else:
            shell = self._visor(shell)
        hidden = value(Shell(self.body.vertices, faces, self._where)) < -0.02
        hidden &= np.arange(len(hidden)) < BODY_VERTICES
        return self._finish(shell, kind, material, hidden, None)

    def _visor(self, shell: Shell) -> Shell:
        """A peak in front: strips that run out from the rim."""
        rim = boundary_edges(shell.triangles)
        middle = self._joints["Head"][1]
        front = shell.vertices[rim].mean(axis=1)[:, 1] < middle - 0.075 * self._scale
        rim = rim[front]
        users, slots = np.unique(rim, return_inverse=True)
        slots = slots.reshape(-1, 2)
        points = shell.vertices[users]
        width = np.abs(points[:, 0]).max()
        reach = 0.075 * self._scale * np.sqrt(np.clip(1 - (points[:, 0] / width) ** 2, 0, 1))
        out = points + np.column_stack(
            [0 * reach, -reach, -0.35 * reach - 0.10 * (points[:, 0]) ** 2 / width]
        )
        under = out - (0, 0, 0.003)
        back = points - (0, 0, 0.004)
        count, extra = len(shell.vertices), len(users)
        a, b = rim.T
        rows = [(a, b)] + [
            (count + k * extra + slots[:, 0], count + k * extra + slots[:, 1]) for k in range(3)
        ]
        strips = []
        for (pa, pb), (qa, qb) in zip(rows, rows[1:], strict=False):
            strips += [np.stack([pa, qa, pb], 1), np.stack([pb, qa, qb], 1)]
        return Shell(
            np.concatenate([shell.vertices, out, under, back]),
            np.concatenate([shell.triangles, *strips]),
            {n: np.concatenate([v, v[users], v[users], v[users]]) for n, v in shell.fields.items()},
        )


def _filled(weights: np.ndarray, vertices: np.ndarray) -> np.ndarray:
    """Weights (V, B) where those of helper vertices that have none are their nearest weighted neighbours'."""
    bare = ~np.isfinite(weights).all(axis=1) | (np.nansum(weights, axis=1) < 0.5)
    if not bare.any():
        return weights
    filled = weights.copy()
    known = np.flatnonzero(~bare)
    filled[bare] = weights[known[cKDTree(vertices[known]).query(vertices[bare])[1]]]
    return filled


def _even(outline: np.ndarray, count: int) -> np.ndarray:
    """A closed outline (N, 2) at ``count`` even steps, rounded a little."""
    closed = np.concatenate([outline, outline[:1]])
    steps = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(closed, axis=0), axis=1))])
    at = np.linspace(0, steps[-1], count, endpoint=False)
    points = np.column_stack([np.interp(at, steps, closed[:, i]) for i in range(2)])
    for _ in range(3):
        points = 0.5 * points + 0.25 * (np.roll(points, 1, axis=0) + np.roll(points, -1, axis=0))
    return points
