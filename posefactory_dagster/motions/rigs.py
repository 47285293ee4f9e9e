"""Draft a rig map for a skeleton that no map fits, by its structure: chains, symmetry and rest positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

#: Bones shorter than this share of their limb are twist bones or helpers.
SHORT = 0.12


class RigError(ValueError):
    """A skeleton in which no person can be seen; the text says what is missing."""


class Bone(BaseModel):
    """One bone of a skeleton in its rest pose; world frame, z up, the file's units."""

    model_config = ConfigDict(frozen=True)

    name: str
    parent: str | None
    head: tuple[float, float, float]
    tail: tuple[float, float, float]


@dataclass(frozen=True)
class Draft:
    """A rig map to be checked: ``bones`` maps the humanoid's bones to the skeleton's."""

    bones: dict[str, str]

    def document(self, name: str) -> dict[str, Any]:
        """The map as a file in ``rigs/`` has it."""
        return {
            "name": name,
            "about": "Drafted by structure; check it.",
            "sides": {},
            "bones": {bone: [actual] for bone, actual in self.bones.items()},
        }


def suggest(skeleton: Sequence[Bone]) -> Draft:
    """Find hips, spine, arms and legs of a skeleton that stands upright.

    Raises:
        RigError: it has no bone from which two legs and a trunk go.
    """
    return Draft(_Structure(skeleton).find())


class _Structure:
    def __init__(self, skeleton: Sequence[Bone]) -> None:
        self._at = {b.name: np.array(b.head) for b in skeleton}
        self._tail = {b.name: np.array(b.tail) for b in skeleton}
        self._children: dict[str, list[str]] = {b.name: [] for b in skeleton}
        for bone in skeleton:
            if bone.parent is not None:
                self._children[bone.parent].append(bone.name)
        heights = [p[2] for p in self._at.values()]
        self._low, self._height = min(heights), max(max(heights) - min(heights), 1e-9)

    def find(self) -> dict[str, str]:
        hips, legs, trunk = self._hips()
        found = {"Hips": hips}
        ankles = []
        for leg in legs:
            joints = self._leg(leg)
            ankles.append(joints)
        front = self._front(ankles)
        left = np.cross((0.0, 0.0, 1.0), front)
        by_side = sorted(ankles, key=lambda j: -float(self._at[j[0]] @ left))
        for side, joints in zip(("Left", "Right"), by_side, strict=True):
            names = ("UpLeg", "Leg", "Foot", "ToeBase")
            found |= {f"{side}{n}": j for n, j in zip(names, joints, strict=False)}
        spine, chest, arms, neck = self._trunk(trunk)
        picked = [spine[round(i)] for i in np.linspace(0, len(spine) - 1, min(3, len(spine)))]
        found |= dict(zip(("Spine", "Spine1", "Spine2"), dict.fromkeys(picked), strict=False))
        necks = self._chain(neck, upward=True)
        found["Neck"] = necks[0]
        found["Head"] = (
            necks[-1]
            if len(necks) < 3
            else necks[-2]
            if not self._children[necks[-1]]
            else necks[-1]
        )
        if found["Head"] == found["Neck"]:
            raise RigError(
                f"{necks[0]} is the only bone above the arms, and a neck and a head are needed"
            )
        for side, arm in zip(
            ("Left", "Right"), sorted(arms, key=lambda a: -float(self._end(a) @ left)), strict=True
        ):
            found |= self._arm(side, arm)
        return found

    def _hips(self) -> tuple[str, list[str], str]:
        """The bone from which two legs go down, the legs' first bones, and the trunk's first bone."""
        best: tuple[float, str, list[str], str] | None = None
        for name, children in self._children.items():
            down = sorted(children, key=lambda c: self._lowest(c))[:2]
            up = [c for c in children if c not in down]
            if len(down) < 2 or not up:
                continue
            trunk = max(up, key=self._highest)
            reach = self._low + 0.2 * self._height
            if (
                max(self._lowest(c) for c in down) > reach
                or self._highest(trunk) < self._low + 0.8 * self._height
            ):
                continue
            rank = self._at[name][2]
            if best is None or rank < best[0]:
                best = (rank, name, down, trunk)
        if best is None:
            raise RigError(
                "no bone from which two legs go down and a trunk goes up; is it a standing person?"
            )
        return best[1], best[2], best[3]

    def _family(self, name: str) -> list[str]:
        found = [name]
        for bone in found:
            found += self._children[bone]
        return found

    def _lowest(self, name: str) -> float:
        return min(float(self._at[b][2]) for b in self._family(name))

    def _highest(self, name: str) -> float:
        return max(float(self._at[b][2]) for b in self._family(name))

    def _chain(self, name: str, *, upward: bool = False) -> list[str]:
        """From a bone on, always into the largest part of the skeleton (or the highest)."""
        found = [name]
        while self._children[found[-1]]:
            children = self._children[found[-1]]
            size = self._highest if upward else lambda c: len(self._family(c))
            found.append(max(children, key=size))
        return found

    def _leg(self, first: str) -> list[str]:
        """Thigh, shank, foot and toes: the knee is the joint next to half the way, the ankle the last one above the floor."""
        path = [first]
        while children := self._children[path[-1]]:
            path.append(min(children, key=self._lowest))
        near = self._low + 0.16 * self._height
        ankle = next((i for i, b in enumerate(path) if self._at[b][2] < near), None)
        if ankle is None or ankle < 2:
            raise RigError(
                f"the leg that begins with {first} has fewer than three joints down to the foot"
            )
        middle = (self._at[path[0]][2] + self._at[path[ankle]][2]) / 2
        knee = min(range(1, ankle), key=lambda i: abs(self._at[path[i]][2] - middle))
        return [path[0], path[knee], path[ankle], *path[ankle + 1 : ankle + 2]]

    def _front(self, legs: Sequence[Sequence[str]]) -> np.ndarray:
        """The horizontal direction of the feet; without toes, of the foot bones; -y where none shows."""
        ways = [
            self._at[j[3]] - self._at[j[2]] if len(j) > 3 else self._tail[j[2]] - self._at[j[2]]
            for j in legs
        ]
        way = np.sum(ways, axis=0) * (1, 1, 0)
        length = np.linalg.norm(way)
        return way / length if length > 0.01 * self._height else np.array([0.0, -1.0, 0.0])

    def _trunk(self, first: str) -> tuple[list[str], str, list[str], str]:
        """The spine's bones, the last of them, the arms' first bones, and the neck's first bone."""
        spine = [first]
        while True:
            children = self._children[spine[-1]]
            if not children:
                raise RigError(f"the trunk that begins with {first} ends without arms")
            wide = sorted(children, key=lambda c: -self._sideways(c))
            if len(children) >= 3 and self._sideways(wide[1]) > 0.1 * self._height:
                neck = max((c for c in children if c not in wide[:2]), key=self._highest)
                return spine, spine[-1], wide[:2], neck
            spine.append(max(children, key=lambda c: len(self._family(c))))

    def _sideways(self, name: str) -> float:
        """How far a part of the skeleton reaches to a side, from its first bone."""
        start = self._at[name]
        return max(float(np.linalg.norm((self._at[b] - start)[:2])) for b in self._family(name))

    def _end(self, name: str) -> np.ndarray:
        return self._at[self._chain(name)[-1]]

    def _arm(self, side: str, first: str) -> dict[str, str]:
        path = self._chain(first)
        hand = next((i for i, b in enumerate(path) if len(self._children[b]) >= 3), None)
        if hand is None:
            hand = min(len(path) - 1, 3)
        total = sum(self._length(path, i) for i in range(hand)) or 1.0
        joints = [i for i in range(hand) if self._length(path, i) >= SHORT * total]
        if len(joints) < 2:
            raise RigError(
                f"the arm that begins with {first} has fewer than three joints down to the hand"
            )
        upper, fore = joints[-2], joints[-1]
        found = {f"{side}Arm": path[upper], f"{side}ForeArm": path[fore], f"{side}Hand": path[hand]}
        return found | ({f"{side}Shoulder": path[0]} if upper > 0 else {})

    def _length(self, path: Sequence[str], index: int) -> float:
        return float(np.linalg.norm(self._at[path[index + 1]] - self._at[path[index]]))


def draw(skeleton: Sequence[Bone], draft: Draft, target: Path) -> None:
    """The skeleton from the front and from the side, with the bones that the draft names."""
    from matplotlib.figure import Figure

    at = {b.name: np.array(b.head) for b in skeleton}
    ours = {actual: bone for bone, actual in draft.bones.items()}
    figure = Figure(figsize=(13, 9), layout="constrained")
    panels = figure.subplots(1, 2, width_ratios=(3, 1), sharey=True)
    for axes, axis, title in zip(panels, (0, 1), ("front", "side"), strict=True):
        for bone in skeleton:
            start = at.get(bone.parent or "")
            if start is not None:
                end = at[bone.name]
                xs, zs = [start[axis], end[axis]], [start[2], end[2]]
                axes.plot(xs, zs, color="#b8bcc4", linewidth=1.0, zorder=1)
        for name, role in ours.items():
            axes.scatter([at[name][axis]], [at[name][2]], s=22, color=_colour(role), zorder=2)
            if axis == 0:
                _label(axes, role, name, at[name])
        axes.set_aspect("equal")
        axes.set_title(title)
        axes.margins(x=0.25, y=0.12)
        axes.axis("off")
    figure.savefig(target, dpi=110)


def _colour(role: str) -> str:
    return (
        "#c8442f"
        if role.startswith("Left")
        else "#2f5fc8"
        if role.startswith("Right")
        else "#333333"
    )


def _label(axes: Any, role: str, name: str, place: np.ndarray) -> None:
    """A joint's names beside it; along the arms, which lie level in many rests, they stand aslant."""
    right, arm = role.startswith("Right"), any(w in role for w in ("Arm", "Hand", "Shoulder"))
    axes.annotate(
        f"{role}: {name}", (place[0], place[2]), (-7 if right else 7, 6 if arm else -3), textcoords="offset points", fontsize=8,
        color=_colour(role), ha="right" if right else "left", rotation=(-55 if right else 55) if arm else 0,
        rotation_mode="anchor",
    )  # fmt: skip
