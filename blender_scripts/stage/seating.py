"""Something to sit on: where a motion sits on what its file does not have, a look puts a chair, a stool or a bench under it.

Who sits is told by balance: the hips are low, the thighs level, and the body is so far behind the feet that nobody could hold that pose without
a seat. Somebody who squats or crouches is over the feet, and gets none. Metres, z up, floor at 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import bpy
import numpy as np

from blender_scripts.stage import sets
from blender_scripts.stage.character import Character
from blender_scripts.stage.skeleton import UP

#: Who sits: height of the hips over the ankles, and how far hips and head are behind them at least, in legs (thigh and shank); the greatest lean
#: of the trunk from upright, degrees; and the greatest slope of a thigh, of its length.
SEAT_HEIGHT, LEAST_BEHIND, MOST_LEAN_DEGREES, MOST_SLOPE = (0.42, 0.80), 0.16, 60.0, 0.75
#: Feet are on or near the floor: the lower ankle is no higher than this, in legs.
MOST_LIFTED = 0.4
#: A seat begins so far behind the hip joints, and ends at this share of the thighs; this share of the skin above it sinks in, as what is
#: sat on gives way.
BEHIND_M, OF_THIGH, SUNK = 0.15, 0.62, 0.06
#: Frames that sit so near to each other share a seat, metres; a seat is left away where the person has gone farther from it.
SAME_M, SAME_HEIGHT_M, NEAR_M = 0.25, 0.06, 0.9
#: Space between the back of the trunk and what it may lean on; farther behind the hips a chair has no back. Metres.
BACK_GAP_M, FARTHEST_BACK_M = 0.015, 0.36
#: Width of a seat, and how far skin may be below its top, metres.
WIDTH_M, SUNK_M = 0.46, 0.05
#: Half the width of a bench, and where others stand or sit beside, metres.
BENCH_HALF_M, IN_GROUPS_HALF_M = 0.75, 0.25


@dataclass(eq=False)
class Seat:
    """A place to sit.

    Attributes:
        hips: (2,) what is over it, on the floor. front: (2,) unit vector that the thighs point along.
        height: of its top. ahead, behind: how far it goes before and behind the hips. back: how far the trunk's back is behind the hips.
        half: how far it may go to each side; in groups others are near.
    """

    hips: np.ndarray
    front: np.ndarray
    height: float
    ahead: float
    behind: float
    back: float
    half: float = BENCH_HALF_M

    def serves(self, other: Seat) -> bool:
        """Whether somebody who sits as on the other one can sit here too."""
        near = np.linalg.norm(self.hips - other.hips) < SAME_M and self.front @ other.front > 0.8
        return bool(near and abs(self.height - other.height) < SAME_HEIGHT_M)

    def free_for(self, vertices: np.ndarray) -> bool:
        """Whether it may stand beside people who do not sit on it: they are near, and nobody is in it.

        Args:
            vertices: (V, 3) of their surfaces.
        """
        from_hips = vertices[:, :2] - self.hips
        if np.linalg.norm(from_hips, axis=1).min() > NEAR_M:
            return False
        ahead, beside = from_hips @ self.front, from_hips @ (-self.front[1], self.front[0])
        within = (ahead < self.ahead) & (ahead > -FARTHEST_BACK_M) & (np.abs(beside) < WIDTH_M / 2)
        return not (within & (vertices[:, 2] < self.height - SUNK_M)).any()


def seat_under(character: Character, vertices: np.ndarray, half: float) -> Seat | None:
    """What a person needs to sit as it does now; None if it does not sit.

    Args:
        vertices: its surface now, see ``Character.vertices``. half: see ``Seat``.
    """
    legs = np.array([[character.joint(b) for b in leg] for leg in character.rig.map["legs"]])
    head = character.joint(character.rig.map["head"])
    length = float(np.linalg.norm(np.diff(legs, axis=1), axis=2).sum(axis=1).mean())
    hips, ankles = legs[:, 0].mean(axis=0), legs[:, 2]
    thighs = legs[:, 1] - legs[:, 0]
    thigh = float(np.linalg.norm(thighs, axis=1).mean())
    front = thighs.sum(axis=0)[:2]
    if np.linalg.norm(front) < 0.2 * thigh:
        return None
    front = front / np.linalg.norm(front)
    trunk = head - hips
    lean = math.degrees(math.acos(np.clip(trunk @ UP / np.linalg.norm(trunk), -1, 1)))
    middle = (hips + head)[:2] / 2
    low, high = (share * length for share in SEAT_HEIGHT)
    sits = (
        low < hips[2] - ankles[:, 2].min() < high
        and ankles[:, 2].min() < MOST_LIFTED * length
        and lean < MOST_LEAN_DEGREES
        and (np.abs(thighs[:, 2]) < MOST_SLOPE * thigh).all()
        and float((ankles.mean(axis=0)[:2] - middle) @ front) > LEAST_BEHIND * length
    )
    if not sits:
        return None
    surface = character.surface
    names = np.array([*surface.bone_names, ""])
    of = names[surface.vertex_bone]
    upper = [character.rig.map["hips"], *(leg[0] for leg in character.rig.map["legs"])]
    lap = np.isin(of, sorted(character.rig.matching(upper)))
    ahead = (vertices[:, :2] - hips[:2]) @ front
    beside = np.abs(vertices[:, :2] @ (-front[1], front[0]) - hips[:2] @ (-front[1], front[0]))
    end = OF_THIGH * thigh
    over = vertices[lap & (ahead > -BEHIND_M) & (ahead < end) & (beside < WIDTH_M / 2), 2]
    if not len(over):
        return None
    height = float(np.quantile(over, SUNK))
    trunk_bones = character.rig.matching([character.rig.map["hips"], "Spine*"])
    back = vertices[np.isin(of, sorted(trunk_bones)), :]
    leaning = back[(back[:, 2] > height + 0.12) & (back[:, 2] < height + 0.5)]
    behind = -((leaning[:, :2] - hips[:2]) @ front).min() if len(leaning) else 0.0
    return Seat(hips[:2], front, height, end, BEHIND_M, float(behind), half)


def together(needed: list[Seat]) -> list[Seat]:
    """Of each seat the one that serves in its place: those that are nearly one are one, as low as the lowest, which goes into nobody."""
    found: list[Seat] = []
    serving = []
    for seat in needed:
        same = next((s for s in found if s.serves(seat)), None)
        if same is None:
            same = seat
            found.append(seat)
        same.height = min(same.height, seat.height)
        same.back = max(same.back, seat.back + float((same.hips - seat.hips) @ same.front))
        serving.append(same)
    return serving


def build(seat: Seat, kind: str, chance: np.random.Generator) -> bpy.types.Object:
    """A piece of furniture for a seat, in the present scene.

    Args:
        kind: one of ``KINDS``.
    """
    place = sets.Place(f"seat_{kind}", chance, 0.0, False)
    KINDS[kind](place, seat)
    obj = sets.finish(place)
    obj.location = (*seat.hips, 0.0)
    obj.rotation_euler = (0.0, 0.0, math.atan2(-seat.front[0], seat.front[1]))
    return obj


def _wood(place: sets.Place) -> int:
    return place.material(sets.paint("seat_frame", sets.pick(place, sets.WOODS), None, "stripes", 2.0, 0.3))  # fmt: skip


def _cloth(place: sets.Place) -> int:
    return place.material(sets.paint("seat", sets.pick(place, sets.CLOTHS), contrast=0.25))


# Each is built about the origin under the hips, y ahead.


def _stool(place: sets.Place, seat: Seat) -> None:
    wood = _wood(place)
    half = min((seat.ahead + seat.behind) / 2, WIDTH_M / 2)
    middle = (0.0, (seat.ahead - seat.behind) / 2)
    place.cylinder(half, 0.035, (*middle, seat.height - 0.035), _cloth(place), sides=32)
    for x in (-1, 1):
        for y in (-1, 1):
            foot = (middle[0] + 0.6 * half * x, middle[1] + 0.6 * half * y, 0.0)
            place.cylinder(0.018, max(seat.height - 0.035, 0.01), foot, wood, sides=10)


def _chair(place: sets.Place, seat: Seat) -> None:
    frame, cloth = _wood(place), _cloth(place)
    backed = seat.back + BACK_GAP_M < FARTHEST_BACK_M
    behind = max(seat.behind, seat.back + BACK_GAP_M) if backed else seat.behind
    depth, middle = seat.ahead + behind, (seat.ahead - behind) / 2
    place.box((WIDTH_M, depth, 0.05), (0.0, middle, seat.height - 0.05), cloth, bevel=0.015)
    for x in (-1, 1):
        for end in (seat.ahead - 0.03, -behind + 0.02):
            tall = seat.height + 0.42 if backed and end < 0 else seat.height - 0.05
            at = end - (0.03 if backed and end < 0 else 0.0)
            place.box((0.035, 0.035, max(tall, 0.01)), (x * (WIDTH_M / 2 - 0.02), at, 0.0), frame, bevel=0.004)  # fmt: skip
    if backed:
        for low in (0.16, 0.31):
            place.box((WIDTH_M - 0.04, 0.025, 0.10), (0.0, -behind - 0.013, seat.height + low), cloth, bevel=0.01)  # fmt: skip


def _bench(place: sets.Place, seat: Seat) -> None:
    wood = _wood(place)
    depth, middle = seat.ahead + seat.behind, (seat.ahead - seat.behind) / 2
    slats = 4
    for number in range(slats):
        at = -seat.behind + depth * (number + 0.5) / slats
        place.box((2 * seat.half, depth / slats - 0.012, 0.035), (0.0, at, seat.height - 0.035), wood, bevel=0.006)  # fmt: skip
    for x in (-0.8 * seat.half, 0.8 * seat.half):
        place.box((0.07, 0.8 * depth, max(seat.height - 0.035, 0.01)), (x, middle, 0.0), wood, bevel=0.006)  # fmt: skip


def _block(place: sets.Place, seat: Seat) -> None:
    depth, middle = seat.ahead + seat.behind, (seat.ahead - seat.behind) / 2
    place.box((WIDTH_M + 0.06, depth, seat.height), (0.0, middle, 0.0), _cloth(place), bevel=0.03)


#: What may be sat on, by name.
KINDS: dict[str, Callable[[sets.Place, Seat], None]] = {
    "chair": _chair, "stool": _stool, "bench": _bench, "block": _block,
}  # fmt: skip
#: Of these, what is drawn from indoors and outdoors.
INDOORS, OUTDOORS = ("chair", "chair", "stool", "block"), ("bench", "block")
