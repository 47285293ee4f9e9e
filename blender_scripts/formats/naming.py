"""Bone names of other rigs: which bone of a skeleton is the humanoid's hips, left arm, right foot.

Standard library only. A naming (``assets_data/rigs/*.json`` beside the humanoid itself) lists, for bones of the humanoid,
the names that one family of rigs uses. ``{Side}`` stands for Left or Right, ``{side}`` for what that family writes instead.
Names are compared without case and without separators, and any text before all of them (``mixamorig:``, ``Bip01``) is the
rig's prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_SEPARATORS = re.compile(r"[\s_.:|-]+")
SIDES = ("Left", "Right")
FINGERS = ("Thumb", "Index", "Middle", "Ring", "Pinky")
#: The bones of the humanoid that motions speak of, by Mixamo's names without prefix; parents before children.
HUMANOID = (
    "Hips", "Spine", "Spine1", "Spine2", "Neck", "Head",
    *(f"{s}{b}" for s in SIDES for b in ("Shoulder", "Arm", "ForeArm", "Hand")),
    *(f"{s}Hand{f}{i}" for s in SIDES for f in FINGERS for i in (1, 2, 3)),
    *(f"{s}{b}" for s in SIDES for b in ("UpLeg", "Leg", "Foot", "ToeBase")),
)  # fmt: skip


@dataclass(frozen=True)
class Match:
    """How well a naming fits a skeleton.

    Attributes:
        naming: its name.
        prefix: what stands before each name of the skeleton, without separators.
        bones: the skeleton's bone for each bone of the humanoid.
        missing: required bones of the humanoid that the skeleton lacks.
    """

    naming: str
    prefix: str
    bones: dict[str, str]
    missing: list[str] = field(default_factory=list)


def plain(name: str) -> str:
    """A bone's name as names are compared: lower case, no separators."""
    return _SEPARATORS.sub("", name).lower()


def spellings(naming: Mapping[str, Any]) -> dict[str, list[str]]:
    """The spellings of each bone of the humanoid in a naming, best first, as ``plain`` writes them."""
    found: dict[str, list[str]] = {}
    for bone, names in naming["bones"].items():
        for side in SIDES if "{Side}" in bone else ("",):
            values = {"Side": side, "side": naming["sides"].get(side, "")}
            found[bone.format(**values)] = [plain(n.format(**values)) for n in names]
    return found


def fit(names: Iterable[str], naming: Mapping[str, Any], required: Sequence[str]) -> Match:
    """Lay a naming on a skeleton, with the prefix under which most required bones are found.

    Args:
        names: of all bones of the skeleton.
        required: bones of the humanoid without which nothing can be done.
    """
    by_plain: dict[str, str] = {}
    for name in names:
        by_plain.setdefault(plain(name), name)
    wanted = spellings(naming)
    prefixes = {""}
    for bone in required:
        for spelling in wanted.get(bone, ()):
            prefixes |= {p[: -len(spelling)] for p in by_plain if p.endswith(spelling)}

    def lay(prefix: str) -> dict[str, str]:
        laid: dict[str, str] = {}
        for bone, alternatives in wanted.items():
            found = next(
                (by_plain[prefix + s] for s in alternatives if prefix + s in by_plain), None
            )
            if found is not None and found not in laid.values():
                laid[bone] = found
        return laid

    laid = {prefix: lay(prefix) for prefix in sorted(prefixes)}
    best = max(laid, key=lambda p: (sum(r in laid[p] for r in required), -len(p)))
    missing = [r for r in required if r not in laid[best]]
    return Match(naming["name"], best, laid[best], missing)


def best_fit(
    names: Iterable[str], namings: Sequence[Mapping[str, Any]], required: Sequence[str]
) -> Match | None:
    """The naming that fits a skeleton best: fewest required bones missing, then most bones found; None without namings."""
    names = list(names)
    matches = [fit(names, naming, required) for naming in namings]
    return min(matches, key=lambda m: (len(m.missing), -len(m.bones)), default=None)
