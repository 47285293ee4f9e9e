"""Check a BVH file before any importer reads it.

Standard library only. Layout: "Biovision BVH" as described by M. Meredith and S. Maddock, Motion Capture File Formats
Explained, University of Sheffield, 2001: a HIERARCHY of joints with offsets and channels, then MOTION with the number of
frames, the seconds of a frame, and a line of values for each.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from blender_scripts.errors import InputError

_MOTION = re.compile(r"^[ \t]*MOTION[ \t\r]*$", re.MULTILINE)
MAX_FRAMES = 200_000
MAX_JOINTS = 5_000
MAX_VALUE = 1e7
ANEW = "export it again"


@dataclass(frozen=True)
class Header:
    """What a BVH says of itself. ``seconds_per_frame`` as in the file."""

    joints: list[str]
    channels: int
    frames: int
    seconds_per_frame: float

    @property
    def fps(self) -> float:
        """Frames a second; a whole number where the time of a frame is one's, rounded as files have it."""
        rate = 1.0 / self.seconds_per_frame
        return float(round(rate)) if abs(rate - round(rate)) < 0.02 else rate


def check(data: bytes, name: str) -> Header:
    """The header of a sound file.

    Raises:
        InputError: no BVH, one bone only, no frames or too many, values that are no numbers, or another number of values
            than the header announces.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: no BVH: not a text file; {ANEW}") from error
    parts = _MOTION.split(text, maxsplit=1)
    head, motion = parts[0], parts[-1]
    if "HIERARCHY" not in head or len(parts) < 2:
        raise InputError(f"{name}: no BVH: it lacks HIERARCHY or MOTION; {ANEW}")
    words = head.split()
    joints = [words[i + 1] for i, w in enumerate(words[:-1]) if w in ("ROOT", "JOINT")]
    if words.count("ROOT") != 1:
        raise InputError(f"{name}: {words.count('ROOT')} skeletons in it; export one a file")
    if len(joints) < 2:
        raise InputError(
            f"{name}: a skeleton of {len(joints)} bone; a motion of a person has at least 13; {ANEW}"
        )
    if len(joints) > MAX_JOINTS:
        raise InputError(f"{name}: {len(joints)} joints, and at most {MAX_JOINTS} are read; {ANEW}")
    if words.count("{") != words.count("}"):
        raise InputError(
            f"{name}: its brackets do not match, so it is truncated or damaged; {ANEW}"
        )
    try:
        channels = sum(int(words[i + 1]) for i, w in enumerate(words[:-1]) if w == "CHANNELS")
        offsets = [
            float(v) for i, w in enumerate(words) if w == "OFFSET" for v in words[i + 1 : i + 4]
        ]
    except ValueError as error:
        raise InputError(f"{name}: its hierarchy is malformed ({error}); {ANEW}") from error
    if not all(math.isfinite(v) and abs(v) < MAX_VALUE for v in offsets):
        raise InputError(f"{name}: its joints lie at places that are no numbers; {ANEW}")
    frames, seconds, lines = _motion(motion, name)
    _check_values(lines, frames, channels, name)
    return Header(joints, channels, frames, seconds)


def _motion(text: str, name: str) -> tuple[int, float, list[str]]:
    lines = [line for line in text.splitlines() if line.strip()]
    try:
        frames = int(lines[0].split(":")[1])
        seconds = float(lines[1].split(":")[1])
    except (IndexError, ValueError) as error:
        raise InputError(
            f"{name}: its MOTION part says neither frames nor their time; {ANEW}"
        ) from error
    if frames < 1:
        raise InputError(f"{name}: it has {frames} frames; {ANEW}")
    if frames > MAX_FRAMES:
        raise InputError(
            f"{name}: {frames} frames, and at most {MAX_FRAMES} are read; cut it into clips"
        )
    if not (math.isfinite(seconds) and 1e-4 <= seconds <= 10.0):
        raise InputError(f"{name}: {seconds} seconds a frame is no time; {ANEW}")
    return frames, seconds, lines[2:]


def _check_values(lines: list[str], frames: int, channels: int, name: str) -> None:
    if len(lines) != frames:
        raise InputError(
            f"{name}: its header announces {frames} frames, and {len(lines)} are there; {ANEW}"
        )
    for number, line in enumerate(lines, 1):
        values = line.split()
        if len(values) != channels:
            raise InputError(
                f"{name}: frame {number} has {len(values)} values, and the header announces {channels}; {ANEW}"
            )
        try:
            sound = all(math.isfinite(v) and abs(v) < MAX_VALUE for v in map(float, values))
        except ValueError:
            sound = False
        if not sound:
            raise InputError(f"{name}: frame {number} has values that are no numbers; {ANEW}")
