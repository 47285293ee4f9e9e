"""The parts of retargeting against closed forms, and against scipy's rotations."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from blender_scripts.stage import motion_facts
from blender_scripts.stage import retarget as rt
from blender_scripts.stage import skeleton as sk
from blender_scripts.stage.touching import PARTS, touches_of
from tests.motions.make_people import PARENTS, person


def still(skeleton: sk.Skeleton, frames: int, fps: float = 30.0) -> sk.Motion:
    return sk.Motion(
        np.repeat(skeleton.rest[None], frames, 0), np.repeat(skeleton.heads[None], frames, 0), fps
    )


NO_SURFACE = sk.Surface(np.zeros((0, 3)), np.zeros(0, int))


def test_shortest_turns_and_quaternions_agree_with_scipy() -> None:
    random = np.random.default_rng(1)
    a, b = random.normal(size=(2, 50, 3))
    b[0] = -a[0]  # half a turn
    turns = sk.shortest_turn(a, b)
    assert np.allclose(np.linalg.det(turns), 1) and np.allclose(
        turns @ np.swapaxes(turns, 1, 2), np.eye(3), atol=1e-9
    )
    unit = lambda v: v / np.linalg.norm(v, axis=-1, keepdims=True)  # noqa: E731
    assert np.allclose(np.einsum("nij,nj->ni", turns, unit(a)), unit(b), atol=1e-9)
    angles = Rotation.from_matrix(turns).magnitude()
    assert np.allclose(
        angles, np.arccos(np.clip(np.sum(unit(a) * unit(b), axis=1), -1, 1)), atol=1e-6
    )
    some = Rotation.random(200, rng=2)
    ours = sk.quaternions(some.as_matrix())
    theirs = some.as_quat()[:, [3, 0, 1, 2]]
    assert np.allclose(np.abs(np.sum(ours * theirs, axis=1)), 1)


@pytest.mark.parametrize("down", [0.0, 45.0, 80.0])
def test_arms_point_where_the_sources_do_whatever_the_rest_pose(down: float) -> None:
    source, target = person(0.0), person(down, legs=0.8)
    motion = still(source, 3)
    turn = Rotation.from_euler("yz", [35, 20], degrees=True).as_matrix()
    arm, fore = source.bones["LeftArm"], source.bones["LeftForeArm"]
    motion.rotations[1, arm] = turn @ source.rest[arm]
    motion.rotations[1, fore] = turn @ source.rest[fore]
    got = rt.retarget(source, motion, target, NO_SURFACE).motion.heads
    for frame in range(3):
        for side in ("Left", "Right"):
            way = (
                got[frame, target.bones[f"{side}ForeArm"]] - got[frame, target.bones[f"{side}Arm"]]
            )
            x = 1.0 if side == "Left" else -1.0
            wanted = (turn if frame == 1 and side == "Left" else np.eye(3)) @ np.array([x, 0, 0])
            assert np.allclose(way / np.linalg.norm(way), wanted, atol=1e-6)


def test_nobody_shrugs_whose_rig_begins_the_clavicle_higher() -> None:
    """Where a rig begins the clavicle says nothing of how the shoulder is held: at rest stays at rest."""
    source, target = person(0.0), person(45.0)
    for side in ("Left", "Right"):
        target.heads[target.bones[f"{side}Shoulder"], 2] += 0.07
    got = rt.retarget(source, still(source, 2), target, NO_SURFACE).motion.heads
    arms = [target.bones[f"{s}Arm"] for s in ("Left", "Right")]
    assert np.allclose(got[:, arms], target.heads[arms], atol=1e-6)


def test_a_source_that_lies_on_its_axes_or_faces_another_way_is_turned() -> None:
    target = person(0.0)
    for turn in (
        Rotation.from_euler("x", 90, degrees=True),
        Rotation.from_euler("z", 180, degrees=True),
        Rotation.from_euler("z", 37, degrees=True),
    ):
        matrix = turn.as_matrix()
        source = person(0.0, turned=matrix)
        got = rt.retarget(source, still(source, 2), target, NO_SURFACE).motion
        assert np.allclose(got.rotations[0], target.rest, atol=6e-3)


def test_travel_is_scaled_by_the_legs_and_feet_that_stand_do_not_slide() -> None:
    """The pelvis moves 0.3 m over feet that stand; on legs half as long it moves half as far, and the feet stay."""
    source, target = person(0.0), person(0.0, legs=0.5)
    frames = 31
    motion = still(source, frames)
    for frame in range(frames):
        shift = np.array([0.0, -0.3 * frame / (frames - 1), -0.05])
        motion.heads[frame] += shift
    # The legs of the source bend so that its feet stay.
    for side in ("Left", "Right"):
        for bone in ("Foot", "ToeBase"):
            motion.heads[:, source.bones[f"{side}{bone}"]] = source.head(f"{side}{bone}")
    got = rt.retarget(source, motion, target, NO_SURFACE)
    assert got.stands.all()
    pelvis = got.motion.heads[:, target.bones["Hips"]]
    assert pelvis[-1, 1] - pelvis[0, 1] == pytest.approx(-0.15, abs=0.02)
    for side in ("Left", "Right"):
        toes = got.motion.heads[:, target.bones[f"{side}ToeBase"]]
        assert np.ptp(toes[:, :2], axis=0).max() < 0.002
        assert np.abs(toes[:, 2] - target.head(f"{side}ToeBase")[2]).max() < 0.005
    # Bones keep their lengths: what was turned is a skeleton.
    for bone, parent in PARENTS.items():
        if parent:
            a, b = target.bones[bone], target.bones[parent]
            lengths = np.linalg.norm(got.motion.heads[:, a] - got.motion.heads[:, b], axis=1)
            assert np.allclose(
                lengths, np.linalg.norm(target.heads[a] - target.heads[b]), atol=1e-9
            )


def test_what_would_be_under_the_floor_is_raised() -> None:
    target = person(0.0)
    motion = still(target, 5)
    back = target.bones["Spine1"]
    deep = sk.Surface(np.array([target.heads[back] * [1, 1, 0] + [0, 0, -0.2]]), np.array([back]))
    got = rt.retarget(target, motion, target, deep).motion
    assert got.heads[2, back, 2] - target.heads[back, 2] == pytest.approx(0.2, abs=1e-6)


def test_lafans_rest_is_none_and_a_frame_stands_for_it() -> None:
    """All limbs along one axis, as that data set's zero pose has them: the frame in which the person stands is taken."""
    target, source = person(0.0), person(0.0)
    flat = source.heads.copy()
    flat[:] = source.heads[source.bones["Hips"]]
    for bone, parent in PARENTS.items():
        if parent:
            length = np.linalg.norm(source.head(bone) - source.head(parent))
            flat[source.bones[bone]] = flat[source.bones[parent]] + [length, 0, 0]
    odd = sk.Skeleton(source.bones, source.parents, source.rest, flat)
    got = rt.retarget(odd, still(source, 4), target, NO_SURFACE).motion
    for limb in ("LeftLeg", "RightForeArm", "Neck"):
        parent = PARENTS[limb]
        ours = got.heads[0, target.bones[limb]] - got.heads[0, target.bones[parent]]
        theirs = source.head(limb) - source.head(parent)
        assert (
            np.degrees(
                np.arccos(
                    np.clip(ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs), -1, 1)
                )
            )
            < 0.5
        )


def test_what_a_motion_is_is_told_by_positions() -> None:
    body = person(0.0)
    standing = motion_facts.describe(body, still(body, 40), 4)
    assert standing.facts["derived_tags"] == ["standing"] and standing.facts["loops"] is False
    assert standing.facts["contacts"] == {"left": [[0, 40]], "right": [[0, 40]]}
    lying = still(body, 40)
    turn = Rotation.from_euler("x", 90, degrees=True).as_matrix()
    lying.rotations[:] = turn @ lying.rotations
    lying.heads[:] = lying.heads @ turn.T * [1, 1, 1] + [0, 0, 0.1]
    assert "lying" in motion_facts.describe(body, lying, 4).facts["derived_tags"]  # type: ignore[operator]
    flying = still(body, 40)
    flying.heads[..., 2] += 0.3 * np.sin(np.linspace(0, np.pi, 40))[:, None]
    assert "airborne" in motion_facts.describe(body, flying, 4).facts["derived_tags"]  # type: ignore[operator]
    moving = still(body, 61)
    moving.heads[..., 1] -= np.linspace(0, 2.0, 61)[:, None]
    facts = motion_facts.describe(body, moving, 4).facts
    scale = motion_facts.LEG / body.leg_length()
    assert facts["travel_m"] == pytest.approx(2.0 * scale, abs=1e-3) and facts[
        "speed_m_s"
    ] == pytest.approx(scale, abs=1e-3)


def test_hands_that_touch_in_the_source_touch_in_a_target_of_other_proportions() -> None:
    """Palms together before the chest, and one on the thigh: on shoulders a fifth wider, arms alone would miss both."""
    source, target = person(0.0), person(0.0, shoulders=1.2)
    motion = still(source, 30)
    _reach(source, motion, {"Left": [0.02, -0.35, 1.25], "Right": [-0.02, -0.35, 1.25]})
    together = touches_of(source, motion)
    assert together.other.all() and (together.part == -1).all()

    def gap(touch: bool) -> float:
        heads = rt.retarget(source, motion, target, NO_SURFACE, touch=touch).motion.heads[15]
        return float(
            np.linalg.norm(heads[target.bones["LeftHand"]] - heads[target.bones["RightHand"]])
        )

    theirs = np.linalg.norm(
        motion.heads[15, source.bones["LeftHand"]] - motion.heads[15, source.bones["RightHand"]]
    )
    assert gap(touch=True) == pytest.approx(theirs, abs=0.03) and gap(touch=False) > theirs + 0.07
    # The same for hands that hold a box before the body.
    motion = still(source, 60)
    _reach(source, motion, {"Left": [0.2, -0.35, 1.1], "Right": [-0.2, -0.35, 1.1]})
    assert touches_of(source, motion).other.all()
    assert gap(touch=True) == pytest.approx(0.4, abs=0.04) and gap(touch=False) > 0.46
    motion = still(source, 30)
    _reach(source, motion, {"Right": [-0.09, -0.08, 0.72]})
    on_thigh = touches_of(source, motion)
    assert (on_thigh.part[:, 1] == list(PARTS).index("Right thigh")).all() and (
        on_thigh.part[:, 0] == -1
    ).all()
    heads = rt.retarget(source, motion, target, NO_SURFACE).motion.heads[15]
    hip, knee, wrist = (heads[target.bones[b]] for b in ("RightUpLeg", "RightLeg", "RightHand"))
    off = wrist - hip - (wrist - hip) @ (knee - hip) / ((knee - hip) @ (knee - hip)) * (knee - hip)
    assert np.linalg.norm(off) < 0.16


def _reach(source: sk.Skeleton, motion: sk.Motion, wrists: dict[str, list[float]]) -> None:
    """Bring wrists to places (3,), in all frames."""
    for side, place in wrists.items():
        limb = (f"{side}Arm", f"{side}ForeArm", f"{side}Hand")
        count = len(motion.heads)
        back = np.tile([0.0, 1.0, -0.3], (count, 1))
        sk.bend(source, motion.rotations, motion.heads, limb, np.tile(place, (count, 1)), back)
        motion.heads[:] = sk.heads_of(
            source, motion.rotations, np.tile(source.pelvis(), (count, 1))
        )


def test_knees_do_not_bend_backwards_nor_elbows_fold_beyond_peoples() -> None:
    source = person(0.0)
    motion = still(source, 10)
    for bone, axis, degrees in (
        ("LeftLeg", "x", -25.0),
        ("RightLeg", "x", 60.0),
        ("LeftForeArm", "z", -175.0),
        ("RightForeArm", "z", 90.0),
    ):
        motion.rotations[:, source.bones[bone]] = Rotation.from_euler(
            axis, degrees, degrees=True
        ).as_matrix()
    in_the_air = np.tile(source.pelvis() + [0, 0, 0.5], (10, 1))  # so that no foot stands
    motion.heads[:] = sk.heads_of(source, motion.rotations, in_the_air)
    got = rt.retarget(source, motion, source, NO_SURFACE).motion.heads[5]

    def bend(*names: str) -> float:
        a, b, c = (got[source.bones[n]] for n in names)
        return float(
            np.degrees(
                np.arccos(
                    np.clip(
                        (b - a) @ (c - b) / np.linalg.norm(b - a) / np.linalg.norm(c - b), -1, 1
                    )
                )
            )
        )

    assert bend("LeftUpLeg", "LeftLeg", "LeftFoot") == pytest.approx(5.0, abs=1.0)
    assert bend("RightUpLeg", "RightLeg", "RightFoot") == pytest.approx(60.0, abs=1.5)
    assert bend("LeftArm", "LeftForeArm", "LeftHand") == pytest.approx(155.0, abs=0.5)
    assert bend("RightArm", "RightForeArm", "RightHand") == pytest.approx(90.0, abs=0.5)
