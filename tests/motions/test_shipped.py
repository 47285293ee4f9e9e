"""The motions that ship are ones that people's joints can do: what skins show of them, as positions of joints do not tell it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from posefactory_dagster.settings import ASSETS_DATA

MOTIONS = sorted((ASSETS_DATA / "motions").glob("*.bvh"))
#: Of the T-pose (y up, facing +z, palms down): how far an upper arm turns about itself, degrees, inwards and outwards (A. Kapandji,
#: The Physiology of the Joints, 2007: 95 and 80), and the forearm with the hand about the elbow (85 of pronation, 90 of supination).
SHOULDER_TWIST, HAND_TWIST = 95.0, 95.0


def turns_of(path: Path) -> dict[str, Rotation]:
    """The rotation of each joint towards its parent, frame by frame."""
    head, body = path.read_text("utf-8").split("MOTION")
    rows = np.array([[float(v) for v in line.split()] for line in body.strip().splitlines()[2:]])
    found, column = {}, 0
    for name, channels in re.findall(r"(?:ROOT|JOINT) (\w+)\s*{\s*OFFSET[^\n]*\s*CHANNELS \d ([^\n]+)", head):  # fmt: skip
        names = channels.split()
        axes = "".join(n[0] for n in names if n.endswith("rotation"))
        first = column + len(names) - 3
        found[name] = Rotation.from_euler(axes, rows[:, first : first + 3], degrees=True)
        column += len(names)
    return found


def twist(turn: Rotation) -> np.ndarray:
    """Degrees about the arm's own axis, x in the T-pose; swing-twist decomposition."""
    x, _, _, w = turn.as_quat().T
    return (np.degrees(2 * np.arctan2(x, w)) + 180) % 360 - 180


@pytest.mark.parametrize("path", MOTIONS, ids=lambda p: p.stem)
@pytest.mark.parametrize(("side", "out"), [("Left", 1.0), ("Right", -1.0)])
def test_arms_turn_and_elbows_fold_as_peoples_do(path: Path, side: str, out: float) -> None:
    turns = turns_of(path)
    folded = turns[f"{side}ForeArm"].apply([out, 0, 0])
    bent = np.degrees(np.arccos(np.clip(folded[:, 0] * out, -1, 1))) > 5
    assert bent.any(), "its elbows never bend, so nothing is told"
    assert folded[bent, 2].min() > 0, "an elbow folds backwards"
    assert np.abs(twist(turns[f"{side}Hand"])).max() < HAND_TWIST
    assert np.abs(twist(turns[f"{side}Arm"])).max() < SHOULDER_TWIST, "an upper arm turns over"
