"""Make the motions that ship: everyday acts, keyed by where feet, hands and pelvis are. Ours, under CC0.

    python assets_data/motions/build_motions.py [NAME …]

Gaits follow published figures: stance 62 % of a walking stride and 35 % of a running one, a pelvis that is lowest in double
support and sways over the standing foot (M. W. Whittle, Gait Analysis, 4th edition, 2007).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from puppet import (
    ANKLE,
    BALL,
    FPS,
    HEEL,
    HIP_WIDTH,
    SIDES,
    STANDING,
    Act,
    Foot,
    Hand,
    X,
    Y,
    Z,
    about,
    turned,
    write,
)

Keys = Sequence[tuple[float, object]]


def ease(times: np.ndarray, keys: Keys) -> np.ndarray:
    """Values over time through keys (second, value), at rest at each key: minimum jerk (T. Flash and N. Hogan, 1985)."""
    at = np.array([k[0] for k in keys], float)
    values = np.array([np.atleast_1d(np.asarray(k[1], float)) for k in keys])
    index = np.clip(np.searchsorted(at, times, side="right") - 1, 0, max(len(at) - 2, 0))
    following = np.minimum(index + 1, len(at) - 1)
    span = np.maximum(at[following] - at[index], 1e-9)
    s = np.clip((times - at[index]) / span, 0, 1)
    share = (10 * s**3 - 15 * s**4 + 6 * s**5)[:, None]
    found = values[index] * (1 - share) + values[following] * share
    return found[:, 0] if found.shape[1] == 1 else found


def flow(times: np.ndarray, keys: Keys) -> np.ndarray:
    """Values over time through keys (second, value) without a stop at each: cubic, with the slopes of Catmull and Rom."""
    at = np.array([k[0] for k in keys], float)
    values = np.array([np.atleast_1d(np.asarray(k[1], float)) for k in keys])
    slopes = np.gradient(values, at, axis=0)
    slopes[0] = slopes[-1] = 0
    index = np.clip(np.searchsorted(at, times, side="right") - 1, 0, len(at) - 2)
    span = (at[index + 1] - at[index])[:, None]
    s = np.clip((times - at[index])[:, None] / span, 0, 1)
    h = (2 * s**3 - 3 * s**2 + 1, s**3 - 2 * s**2 + s, -2 * s**3 + 3 * s**2, s**3 - s**2)
    found = (
        h[0] * values[index]
        + h[1] * span * slopes[index]
        + h[2] * values[index + 1]
        + h[3] * span * slopes[index + 1]
    )
    return found[:, 0] if found.shape[1] == 1 else found


def seconds(length: float) -> np.ndarray:
    """The times of all frames of a clip."""
    return np.arange(round(length * FPS) + 1) / FPS


def row(values: Sequence[float], times: np.ndarray) -> np.ndarray:
    """A constant (T, 3)."""
    return np.tile(np.asarray(values, float), (len(times), 1))


def columns(*parts: np.ndarray | float, times: np.ndarray) -> np.ndarray:
    """(T, 3) of three columns, each over time or constant."""
    return np.stack([np.broadcast_to(np.asarray(p, float), times.shape) for p in parts], axis=1)


def standing_feet(
    times: np.ndarray,
    apart: float = 0.0,
    out: float = 8.0,
    ahead: Mapping[str, float] | None = None,
) -> dict[str, Foot]:
    """Feet that do not move, ``apart`` metres wider than the hips, toes ``out`` by degrees."""
    zero = np.zeros(len(times))
    feet = {}
    for side, x in SIDES.items():
        ankle = row([x * (HIP_WIDTH + apart), -(ahead or {}).get(side, 0.0), ANKLE], times)
        feet[side] = Foot(ankle, zero, zero + x * out, zero)
    return feet


def heel_up(foot: Foot, degrees: np.ndarray) -> Foot:
    """The same foot with its heel raised about the ball, toes left on the floor."""
    still = about(Z, foot.yaw)
    ball = foot.ankle + (still @ BALL)
    ankle = ball - np.einsum("tij,j->ti", still @ about(X, degrees), BALL)
    return Foot(ankle, foot.pitch - degrees, foot.yaw, foot.toes + degrees)


def hanging(times: np.ndarray, act_pelvis: np.ndarray, turn: np.ndarray, back: np.ndarray, swing: Mapping[str, np.ndarray] | None = None,
            bend: Mapping[str, np.ndarray] | float = 18.0, out: float = 13.0) -> dict[str, Hand]:  # fmt: skip
    """Arms that hang from the shoulders: ``swing`` forward and ``bend`` of the elbow in degrees, ``out`` to the side."""
    chest = turned(turn) @ turned(back)
    spine = act_pelvis + np.einsum("tij,j->ti", chest, np.array([0, 0, 0.35]))
    hands = {}
    for side, x in SIDES.items():
        forward = (swing or {}).get(side, np.zeros(len(times)))
        elbow = bend.get(side) if isinstance(bend, Mapping) else np.full(len(times), float(bend))
        assert elbow is not None
        shoulder = spine + np.einsum("tij,j->ti", chest, np.array([x * 0.18, 0, 0.12]))
        yaw = about(Z, turn[:, 2] + back[:, 2])
        upper = yaw @ about(Y, -x * out) @ about(X, -forward)
        lower = upper @ about(X, -elbow)
        wrist = (
            shoulder
            + np.einsum("tij,j->ti", upper, -0.29 * Z)
            + np.einsum("tij,j->ti", lower, -0.26 * Z)
        )
        hands[side] = Hand(
            wrist, np.einsum("tij,j->ti", upper, Y + 0.3 * x * X), np.zeros(len(times)) + 15.0
        )
    return hands


def gait(times: np.ndarray, *, speed: float, stride: float, stance: float, bob: float, sway: float, clearance: float, lean: float,
         swing: float, elbow: tuple[float, float], crouch: float = 0.0, strike: float = 18.0, off: float = 52.0) -> Act:  # fmt: skip
    """Walking and running: feet that roll over heel and ball, a pelvis that rides over them, arms against the legs.

    Args:
        speed: metres a second. stride: seconds of two steps. stance: share of it that a foot stands.
        bob, sway: how far the pelvis goes up and down, and to the sides, metres. clearance: of the ankle in the swing, metres.
        lean: of the trunk, degrees. swing: of the arms, degrees. elbow: least and most bend, degrees.
        crouch: how much lower the pelvis rides, metres. strike, off: pitch of the foot when it lands and leaves, degrees.
    """
    phase = times / stride
    travel = -speed * times
    feet = {
        s: _rolling(
            phase + (0.0 if s == "Left" else 0.5),
            travel,
            x,
            speed,
            stride,
            stance,
            clearance,
            strike,
            off,
        )
        for s, x in SIDES.items()
    }
    turn_phase = 2 * np.pi * phase
    double = np.cos(2 * turn_phase - 2 * np.pi * (2 * (stance - 0.5) / 2))
    running = stance < 0.5
    height = STANDING - crouch - bob / 2 - bob / 2 * double * (1 if not running else 1)
    side = sway * np.sin(turn_phase + 0.5)
    pelvis = np.stack([side, travel + 0.01 * np.sin(2 * turn_phase), height], axis=1)
    yaw = 6.0 * np.cos(turn_phase)
    turn = columns(lean * 0.5, 3.0 * np.sin(turn_phase + 0.3), -yaw, times=times)
    back = columns(lean * 0.5, -3.0 * np.sin(turn_phase + 0.3), 2.2 * yaw, times=times)
    head = columns(-0.6 * lean, 0.0, -1.2 * yaw, times=times)
    forward = {"Left": -swing * np.cos(turn_phase) + 3, "Right": swing * np.cos(turn_phase) + 3}
    bend = {
        s: elbow[0] + (elbow[1] - elbow[0]) * (0.5 + 0.5 * f / max(swing, 1))
        for s, f in forward.items()
    }
    pelvis[:, 2] = _lowered(pelvis, turn, feet)
    return Act(
        pelvis, turn, back, head, feet, hanging(times, pelvis, turn, back, forward, bend, 12.0)
    )


def _lowered(pelvis: np.ndarray, turn: np.ndarray, feet: Mapping[str, Foot]) -> np.ndarray:
    """The pelvis's height, low enough that both legs reach their ankles; smooth."""
    height = pelvis[:, 2].copy()
    for side, x in SIDES.items():
        hip = pelvis + np.einsum("tij,j->ti", turned(turn), np.array([x * HIP_WIDTH, 0, 0]))
        flat = np.linalg.norm((feet[side].ankle - hip)[:, :2], axis=1)
        most = feet[side].ankle[:, 2] + np.sqrt(np.maximum((0.995 * 0.85) ** 2 - flat**2, 0.01))
        height = np.minimum(height, most - (hip[:, 2] - pelvis[:, 2]))
    padded = np.pad(height, 2, mode="edge")
    return np.minimum(np.convolve(padded, np.ones(5) / 5, "valid"), height + 0.002)


def _rolling(phase: np.ndarray, travel: np.ndarray, x: float, speed: float, stride: float, stance: float,
             clearance: float, strike: float, off: float) -> Foot:  # fmt: skip
    """One foot of a gait; at whole phases it lands half a step ahead of the pelvis."""
    step = np.floor(phase)
    within = phase - step
    length = speed * stride
    # Where the foot stands in this cycle: where the pelvis is in the middle of the stance.
    middle = travel + (within - stance / 2) * length
    place, following = middle, middle - length
    share = np.clip(within / stance, 0, 1)
    down = (
        flow(share, [(0, strike), (0.16, 0.0), (0.55, 0.0), (0.8, -0.35 * off), (1, -off)])
        if strike > 0
        else flow(share, [(0, strike), (0.3, 0.0), (0.5, 0.0), (0.8, -0.4 * off), (1, -off)])
    )
    air = np.clip((within - stance) / (1 - stance), 0, 1)
    up = flow(air, [(0, -off), (0.25, -off * 0.9), (0.7, 0.3 * strike), (1, strike)])
    standing = within < stance
    pitch = np.where(standing, down, up)
    foot = np.stack([np.full_like(travel, x * 0.085), place, np.full_like(travel, ANKLE)], axis=1)
    at_end = foot + _pivot(np.full_like(travel, -off))
    landing = foot + _pivot(np.full_like(travel, strike))
    landing[:, 1] += following - place
    ease_air = 10 * air**3 - 15 * air**4 + 6 * air**5
    path = at_end + (landing - at_end) * (0.55 * ease_air + 0.45 * air)[:, None]
    path[:, 2] = (
        at_end[:, 2] * (1 - ease_air)
        + landing[:, 2] * ease_air
        + clearance * np.sin(np.pi * air**0.8) ** 2
    )
    ankle = np.where(standing[:, None], foot + _pivot(pitch), path)
    toes = np.where(standing, np.clip(-pitch, 0, 60), np.clip(off * (1 - 3 * air), 0, 60) * 0.8)
    return Foot(ankle, pitch, np.zeros_like(pitch) + 6 * x, toes)


def _pivot(pitch: np.ndarray) -> np.ndarray:
    """How the ankle moves when a foot is pitched on the floor: about the heel with the toes up, about the ball with them down."""
    turn = about(X, -pitch)
    return np.where(
        (pitch > 0)[:, None],
        HEEL - np.einsum("tij,j->ti", turn, HEEL),
        BALL - np.einsum("tij,j->ti", turn, BALL),
    )


# -- acts ---------------------------------------------------------------------------------------------------------------


def walk() -> Act:
    """Four seconds of walking at 1.3 m/s."""
    return gait(
        seconds(4.4),
        speed=1.3,
        stride=1.1,
        stance=0.62,
        bob=0.04,
        sway=0.022,
        clearance=0.07,
        lean=3.0,
        swing=20.0,
        elbow=(12.0, 30.0),
    )


def run() -> Act:
    """Running at 3 m/s, with a flight in each step."""
    return gait(
        seconds(2.88),
        speed=3.0,
        stride=0.72,
        stance=0.36,
        bob=0.07,
        sway=0.012,
        clearance=0.26,
        lean=9.0,
        swing=36.0,
        elbow=(75.0, 100.0),
        strike=6.0,
        off=58.0,
        crouch=0.03,
    )


def crouch() -> Act:
    """Walking bent, low, on bent knees."""
    return gait(
        seconds(4.8),
        speed=0.7,
        stride=1.2,
        stance=0.66,
        bob=0.02,
        sway=0.03,
        clearance=0.09,
        lean=38.0,
        swing=12.0,
        elbow=(45.0, 70.0),
        crouch=0.27,
        strike=6.0,
        off=35.0,
    )


def squat() -> Act:
    """Two deep squats, arms stretched forward against the weight."""
    times = seconds(5.0)
    down = ease(
        times,
        [(0, 0), (0.4, 0), (1.5, 1), (1.8, 1), (2.6, 0), (2.9, 0), (3.9, 1), (4.15, 1), (5.0, 0)],
    )
    feet = standing_feet(times, apart=0.07, out=18.0)
    pelvis = columns(0.0, 0.02 + 0.17 * down, STANDING - 0.002 - 0.47 * down, times=times)
    turn = columns(32 * down, 0, 0, times=times)
    pelvis[:, 2] = _lowered(pelvis, turn, feet)
    back = columns(12 * down, 0, 0, times=times)
    hands = hanging(
        times,
        pelvis,
        turn,
        back,
        {s: 4 + 62 * down for s in SIDES},
        {s: 16 - 6 * down for s in SIDES},
    )
    head = columns(-36 * down, 0, 0, times=times)
    return Act(pelvis, turn, back, head, feet, hands)


def sit_down() -> Act:
    """From standing onto a chair that is not there, and leaning back a little."""
    times = seconds(3.6)
    down = ease(times, [(0, 0), (0.5, 0), (2.1, 1), (3.6, 1)])
    bend = ease(times, [(0, 0), (0.4, 0), (1.25, 1), (2.3, 0.35), (3.0, 0.05), (3.6, 0.0)])
    feet = standing_feet(times, apart=0.02, out=10.0)
    pelvis = columns(0.0, 0.01 + 0.40 * down, STANDING - 0.002 - 0.42 * down, times=times)
    turn = columns(34 * bend - 8 * down * (1 - bend), 0, 0, times=times)
    pelvis[:, 2] = _lowered(pelvis, turn, feet)
    back = columns(16 * bend, 0, 0, times=times)
    hands = _towards_knees(times, pelvis, turn, back, down)
    return Act(pelvis, turn, back, columns(-28 * bend + 4 * down, 0, 0, times=times), feet, hands)


def _towards_knees(
    times: np.ndarray, pelvis: np.ndarray, turn: np.ndarray, back: np.ndarray, share: np.ndarray
) -> dict[str, Hand]:
    """Hands that go from hanging to lying on the thighs."""
    hang = hanging(times, pelvis, turn, back)
    hands = {}
    for side, x in SIDES.items():
        knee = pelvis + np.array([x * 0.12, -0.31, 0.10])
        wrist = hang[side].wrist * (1 - share[:, None]) + knee * share[:, None]
        pole = (
            hang[side].elbow * (1 - share[:, None])
            + np.array([x * 0.9, 0.8, -0.3]) * share[:, None]
        )
        hands[side] = Hand(wrist, pole, hang[side].roll * (1 - share) + 70 * share)
    return hands


def sit() -> Act:
    """Sitting and talking: one hand explains, the weight shifts, the head looks about."""
    times = seconds(6.0)
    one = np.ones(len(times))
    feet = standing_feet(times, apart=0.03, out=12.0)
    shift = ease(times, [(0, 0), (1.4, 1), (3.2, -0.6), (4.6, 0.3), (6.0, 0)])
    pelvis = columns(0.015 * shift, 0.41, STANDING - 0.43, times=times)
    lean = ease(times, [(0, 0), (1.6, 1), (3.4, 0.2), (4.6, 0.9), (6.0, 0)])
    turn = columns(-7 + 5 * lean, 2 * shift, 3 * shift, times=times)
    back = columns(5 + 9 * lean, 2 * shift, 7 * shift, times=times)
    head = columns(
        2 - 6 * lean,
        -3 * shift,
        ease(times, [(0, 0), (0.9, 22), (2.4, 18), (3.2, -24), (4.6, -10), (6.0, 0)]),
        times=times,
    )
    hands = _towards_knees(times, pelvis, turn, back, one)
    lift = ease(
        times,
        [
            (0, 0),
            (0.8, 0),
            (1.5, 1),
            (2.8, 1),
            (3.6, 0),
            (4.0, 0),
            (4.6, 0.8),
            (5.2, 0.8),
            (6.0, 0),
        ],
    )
    beat = 0.05 * np.sin(2 * np.pi * 1.5 * times) * lift
    raised = pelvis + np.array([-0.22, -0.36, 0.42]) + np.stack([0.6 * beat, beat, beat], axis=1)
    right = hands["Right"]
    hands["Right"] = Hand(
        right.wrist * (1 - lift[:, None]) + raised * lift[:, None],
        right.elbow,
        right.roll - 80 * lift,
    )
    return Act(pelvis, turn, back, head, feet, hands)


def pick_up() -> Act:
    """Picks something small up from the floor with the right hand, and looks at it."""
    times = seconds(4.2)
    down = ease(times, [(0, 0), (0.3, 0), (1.5, 1), (1.8, 1), (3.0, 0), (4.2, 0)])
    feet = standing_feet(times, apart=0.02, out=8.0, ahead={"Left": 0.16, "Right": -0.12})
    feet["Right"] = heel_up(feet["Right"], 38 * down)
    pelvis = columns(-0.01, 0.0 + 0.10 * down, STANDING - 0.003 - 0.40 * down, times=times)
    turn = columns(44 * down, -3 * down, 8 * down, times=times)
    pelvis[:, 2] = _lowered(pelvis, turn, feet)
    back = columns(36 * down, -6 * down, 10 * down, times=times)
    hang = hanging(times, pelvis, turn, back)
    thing = row([-0.12, -0.40, 0.05], times)
    chest = pelvis + np.array([-0.08, -0.30, 0.40])
    hold = ease(times, [(0, 0), (1.8, 0), (3.0, 1), (4.2, 1)])
    reach = ease(times, [(0, 0), (0.5, 0), (1.5, 1), (4.2, 1)])
    wrist = (
        hang["Right"].wrist * (1 - reach[:, None])
        + (thing * (1 - hold[:, None]) + chest * hold[:, None]) * reach[:, None]
    )
    right = Hand(wrist, row([-0.9, 0.8, -0.2], times), hang["Right"].roll - 30 * reach)
    knee = pelvis + np.array([0.13, -0.30, -0.02])
    rest = down[:, None]
    left = Hand(
        hang["Left"].wrist * (1 - rest) + knee * rest,
        row([0.9, 0.6, 0.2], times),
        hang["Left"].roll,
    )
    head = columns(-18 * down + 22 * hold, 0, -6 * hold, times=times)
    return Act(pelvis, turn, back, head, feet, {"Left": left, "Right": right})


def _box(times: np.ndarray, centre: np.ndarray, width: float = 0.40) -> dict[str, Hand]:
    """Both hands under the sides of a box at ``centre`` (T, 3)."""
    return {
        side: Hand(
            centre + np.array([x * width / 2, 0.06, 0.0]),
            row([x * 0.8, 0.7, -0.6], times),
            np.zeros(len(times)),
        )
        for side, x in SIDES.items()
    }


def lift_box() -> Act:
    """Lifts a box from the floor with bent knees and a straight back, and holds it before the belly."""
    times = seconds(4.6)
    down = ease(times, [(0, 0), (0.2, 0), (1.5, 1), (2.0, 1), (3.6, 0), (4.6, 0)])
    feet = standing_feet(times, apart=0.09, out=16.0)
    pelvis = columns(0.0, 0.02 + 0.20 * down, STANDING - 0.003 - 0.44 * down, times=times)
    turn = columns(40 * down - 3 * (1 - down), 0, 0, times=times)
    pelvis[:, 2] = _lowered(pelvis, turn, feet)
    back = columns(20 * down, 0, 0, times=times)
    held = ease(times, [(0, 0), (2.0, 0), (3.6, 1), (4.6, 1)])
    floor = row([0, -0.30, 0.26], times)
    belly = np.stack([pelvis[:, 0], pelvis[:, 1] - 0.30, pelvis[:, 2] + 0.17], axis=1)
    box = floor * (1 - held[:, None]) + belly * held[:, None]
    reach = ease(times, [(0, 0), (0.4, 0), (1.5, 1), (4.6, 1)])[:, None]
    hang, carry = hanging(times, pelvis, turn, back), _box(times, box)
    hands = {
        s: Hand(hang[s].wrist * (1 - reach) + carry[s].wrist * reach, hang[s].elbow * (1 - reach) + carry[s].elbow * reach,
                hang[s].roll * (1 - reach[:, 0]) + carry[s].roll * reach[:, 0])
        for s in SIDES
    }  # fmt: skip
    return Act(pelvis, turn, back, columns(-22 * down + 6 * held, 0, 0, times=times), feet, hands)


def carry_box() -> Act:
    """Carries a box before the belly, walking slowly with short steps."""
    act = gait(
        seconds(4.8),
        speed=0.8,
        stride=1.2,
        stance=0.66,
        bob=0.025,
        sway=0.03,
        clearance=0.06,
        lean=-5.0,
        swing=0.0,
        elbow=(60.0, 60.0),
        strike=10.0,
        off=36.0,
    )
    times = seconds(4.8)
    box = act.pelvis + np.array([0, -0.31, 0.16])
    return Act(act.pelvis, act.turn, act.back, act.head, act.feet, _box(times, box))


def reach_high() -> Act:
    """Reaches for a high shelf on tiptoe, first with one hand, then with both."""
    times = seconds(4.8)
    one = ease(times, [(0, 0), (0.3, 0), (1.4, 1), (1.9, 1), (4.0, 1), (4.8, 0)])
    both = ease(times, [(0, 0), (1.9, 0), (2.7, 1), (3.5, 1), (4.4, 0), (4.8, 0)])
    rise = ease(
        times, [(0, 0), (0.6, 0), (1.5, 1), (1.9, 0.8), (2.7, 1), (3.4, 1), (4.2, 0), (4.8, 0)]
    )
    feet = {s: heel_up(f, 30 * rise) for s, f in standing_feet(times, apart=0.01, out=9.0).items()}
    pelvis = columns(
        -0.01 * one * (1 - both), -0.035 * rise, STANDING - 0.002 + 0.056 * rise, times=times
    )
    turn = columns(-2 * rise, -4 * one * (1 - both), 0, times=times)
    pelvis[:, 2] = _lowered(pelvis, turn, feet)
    back = columns(-9 * rise, 7 * one * (1 - both), 9 * one * (1 - both), times=times)
    head = columns(-24 * np.maximum(one, both), 0, 0, times=times)
    hang = hanging(times, pelvis, turn, back)
    hands = {}
    for side, x in SIDES.items():
        share = one if side == "Right" else both
        high = pelvis + np.array([x * 0.15, -0.24, 1.02])
        # The way up leads forward, in front of the face, not through it.
        out = 4 * share * (1 - share)
        via = (
            high * share[:, None]
            + hang[side].wrist * (1 - share[:, None])
            + np.array([x * 0.03, -0.22, 0.0]) * out[:, None]
        )
        hands[side] = Hand(
            via,
            hang[side].elbow * (1 - share[:, None])
            + np.array([x * 0.8, -0.3, -0.2]) * share[:, None],
            hang[side].roll * (1 - share),
        )
    shrug = {"Left": 16 * both, "Right": 18 * one}
    return Act(pelvis, turn, back, head, feet, hands, shrug)


def wave() -> Act:
    """Waves with the right hand over the shoulder, weight on the left leg."""
    times = seconds(3.8)
    up = ease(times, [(0, 0), (0.2, 0), (0.9, 1), (3.0, 1), (3.8, 0)])
    feet = standing_feet(times, apart=0.02, out=11.0)
    pelvis = columns(0.02 + 0.012 * up, 0.0, STANDING - 0.003, times=times)
    turn = columns(0, 2.5, 3, times=times)
    pelvis[:, 2] = _lowered(pelvis, turn, feet)
    back = columns(2, 2 * up, 5 * up, times=times)
    beat = (
        0.11
        * np.sin(2 * np.pi * 1.7 * (times - 0.7))
        * ease(times, [(0, 0), (0.7, 0), (1.1, 1), (2.8, 1), (3.2, 0), (3.8, 0)])
    )
    hang = hanging(times, pelvis, turn, back)
    high = pelvis + np.array([-0.36, -0.16, 0.74])
    high[:, 0] += beat
    right = hang["Right"]
    out = (4 * up * (1 - up))[:, None]
    wrist = right.wrist * (1 - up[:, None]) + high * up[:, None] + np.array([-0.10, -0.10, 0]) * out
    hands = {
        "Left": hang["Left"],
        "Right": Hand(
            wrist,
            right.elbow * (1 - up[:, None]) + np.array([-0.6, 0.2, -1.0]) * up[:, None],
            right.roll * (1 - up),
        ),
    }
    return Act(pelvis, turn, back, columns(0, -4 * up, -6 * up, times=times), feet, hands)


def jumping_jack() -> Act:
    """Three jumping jacks: feet apart and hands over the head, and back."""
    times = seconds(3.6)
    beat = 1.2
    phase = times / beat
    wide = 0.5 - 0.5 * np.cos(2 * np.pi * phase)
    # Two jumps a beat: on the way out and on the way in.
    hop = np.abs(np.sin(2 * np.pi * phase)) ** 1.5
    air = 0.10 * hop
    give = 0.045 * (1 - hop)
    pelvis = columns(0.0, 0.02 * (1 - hop), STANDING - 0.008 - give - 0.055 * wide, times=times)
    turn = columns(5 * (1 - hop), 0, 0, times=times)
    back = columns(3 * (1 - hop), 0, 0, times=times)
    feet = {}
    for side, x in SIDES.items():
        ankle = columns(x * (HIP_WIDTH + 0.27 * _settled(wide)), 0.0, ANKLE + air, times=times)
        foot = Foot(
            ankle, np.zeros(len(times)), np.zeros(len(times)) + 12 * x, np.zeros(len(times))
        )
        feet[side] = heel_up(foot, 8 + 16 * hop)
    # Who is in the air, or on the balls of the feet, is higher by it.
    pelvis[:, 2] += feet["Left"].ankle[:, 2] - ANKLE
    hands = {}
    spine = pelvis + np.array([0, 0, 0.47])
    for side, x in SIDES.items():
        angle = np.radians(12 + 152 * wide)
        reach = 0.515
        wrist = spine + np.stack(
            [
                x * (0.18 + reach * np.sin(angle)),
                np.full(len(times), -0.06) - 0.05 * np.sin(angle),
                -reach * np.cos(angle) + 0.06 * wide,
            ],
            axis=1,
        )
        hands[side] = Hand(
            wrist,
            np.stack(
                [x * np.cos(angle) * 0.4, np.full(len(times), 1.0), np.full(len(times), -0.2)],
                axis=1,
            ),
            np.zeros(len(times)) + 20,
        )
    shrug = {s: 22 * wide for s in SIDES}
    return Act(pelvis, turn, back, columns(-4 * (1 - hop), 0, 0, times=times), feet, hands, shrug)


def _settled(wide: np.ndarray) -> np.ndarray:
    """Feet arrive before the arms do and wait: flat at both ends."""
    s = np.clip((wide - 0.12) / 0.76, 0, 1)
    return s * s * (3 - 2 * s)


def lie_down() -> Act:
    """From standing to the floor: kneels, sits over the left hip on both hands, and lies on the back."""
    times = seconds(7.0)
    pelvis = ease(times, [
        (0.0, [0, 0, STANDING - 0.003]), (0.4, [0, 0, STANDING - 0.003]), (1.8, [0, 0.22, 0.50]), (3.0, [0.05, 0.52, 0.13]),
        (3.6, [0.03, 0.56, 0.12]), (5.4, [0, 0.60, 0.115]), (7.0, [0, 0.60, 0.115]),
    ])  # fmt: skip
    turn = ease(
        times,
        [
            (0, [0, 0, 0]),
            (0.4, [0, 0, 0]),
            (1.8, [38, 0, 0]),
            (3.0, [-16, 4, 0]),
            (3.6, [-24, 3, 0]),
            (5.2, [-84, 0, 0]),
            (7.0, [-88, 0, 0]),
        ],
    )
    back = ease(
        times,
        [
            (0, [0, 0, 0]),
            (0.4, [0, 0, 0]),
            (1.8, [24, 0, 0]),
            (3.0, [26, 0, 4]),
            (3.6, [24, 0, 2]),
            (5.2, [6, 0, 0]),
            (7.0, [0, 0, 0]),
        ],
    )
    head = ease(
        times,
        [
            (0, [0, 0, 0]),
            (1.8, [-20, 0, 0]),
            (3.4, [4, 0, 0]),
            (5.2, [22, 0, 0]),
            (6.2, [0, 0, 0]),
            (7.0, [0, 0, 0]),
        ],
    )
    feet = {}
    for side, x in SIDES.items():
        ankle = ease(times, [
            (0.0, [x * 0.10, 0, ANKLE]), (3.4, [x * 0.10, 0, ANKLE]), (4.4, [x * 0.12, -0.06, ANKLE]), (6.4, [x * 0.13, -0.245, ANKLE - 0.022]),
            (7.0, [x * 0.13, -0.245, ANKLE - 0.022]),
        ])  # fmt: skip
        pitch = ease(times, [(0, 0), (4.0, 0), (6.4, 62), (7.0, 62)])
        # A foot that comes to lie on its heel turns about it.
        feet[side] = Foot(
            ankle + _pivot(pitch) * np.array([1, 0.2, 1]),
            pitch,
            np.zeros(len(times)) + 14 * x,
            np.zeros(len(times)),
        )
    hang = hanging(times, pelvis, turn * np.array([0.3, 1, 1]), back * 0.5)
    hands = {}
    for side, x in SIDES.items():
        floor = ease(
            times,
            [
                (0, [x * 0.34, 0.72, 0.05]),
                (3.6, [x * 0.34, 0.78, 0.05]),
                (4.2, [x * 0.34, 0.78, 0.05]),
                (5.6, [x * 0.40, 0.72, 0.06]),
                (7.0, [x * 0.36, 0.66, 0.06]),
            ],
        )
        share = ease(times, [(0, 0), (1.2, 0), (2.7, 1), (7.0, 1)])[:, None]
        knees = ease(times, [(0, 0), (0.6, 0), (1.7, 1), (2.3, 0.2), (2.7, 0), (7, 0)])[:, None]
        front = pelvis + np.array([x * 0.20, -0.34, 0.02])
        wrist = hang[side].wrist * (1 - share) + floor * share
        wrist = wrist * (1 - 0.7 * knees) + front * 0.7 * knees
        # Hands that support from behind have their elbows outwards and back; beside somebody who lies, towards the floor.
        flat = ease(times, [(0, 0), (3.6, 0), (5.2, 1), (7.0, 1)])[:, None]
        elbow = row([x * 0.9, 0.5, 0.35], times) * (1 - flat) + row([x * 0.9, 0.3, -0.5], times) * flat  # fmt: skip
        elbow = hang[side].elbow * (1 - share) + elbow * share
        hands[side] = Hand(wrist, elbow, np.zeros(len(times)) + 15 + 55 * share[:, 0])
    pelvis[:, 2] = np.maximum(pelvis[:, 2], 0.115)
    return Act(pelvis, turn, back, head, feet, hands)


def dance() -> Act:
    """A side step to music, sixteen beats: out, close, back, close; hips and arms with it, a half turn of the shoulders."""
    beat = 0.5
    times = seconds(16 * beat)
    count = times / beat
    side = np.sin(np.pi * count / 2)
    bounce = np.abs(np.sin(np.pi * count))
    feet = {}
    # Left out, right after it, right back, left after it: one foot at a time.
    steps = {"Left": (0.10, 0.36, 0.36, 0.36), "Right": (-0.10, -0.10, 0.16, -0.10)}
    keys = {
        name: [(k * beat, [places[k % 4], 0.0, ANKLE]) for k in range(17)]
        for name, places in steps.items()
    }
    for name, x in SIDES.items():
        ankle = ease(times, keys[name])
        moving = np.abs(np.gradient(ankle[:, 0])) * FPS
        lift = np.clip(moving / 0.55, 0, 1)
        ankle[:, 2] += 0.05 * lift
        foot = Foot(
            ankle, np.zeros(len(times)), np.zeros(len(times)) + 14 * x, np.zeros(len(times))
        )
        feet[name] = heel_up(foot, 20 * lift + 8 * bounce)
    centre = (feet["Left"].ankle[:, 0] + feet["Right"].ankle[:, 0]) / 2
    pelvis = np.stack(
        [centre + 0.05 * side, 0.015 * bounce, STANDING - 0.030 - 0.040 * (1 - bounce)], axis=1
    )
    turn = columns(4.0, 7 * side, 8 * np.sin(np.pi * count / 2 + 0.6), times=times)
    back = columns(3 + 3 * bounce, -9 * side, -20 * np.sin(np.pi * count / 2 + 0.3), times=times)
    head = columns(-4 * bounce, 4 * side, 10 * side, times=times)
    hands = {}
    for name, x in SIDES.items():
        roll = np.pi * count / 2 + (0 if name == "Left" else np.pi)
        high = 0.5 + 0.5 * np.sin(roll)
        reach = np.stack(
            [x * (0.30 + 0.10 * np.cos(roll)), -0.26 - 0.10 * high, 0.20 + 0.34 * high], axis=1
        )
        wrist = pelvis + np.einsum("tij,tj->ti", about(Z, turn[:, 2] + back[:, 2]), reach)
        hands[name] = Hand(
            wrist, row([x * 0.9, 0.6, -0.7], times), np.zeros(len(times)) + 40 - 40 * high
        )
    pelvis[:, 2] = _lowered(pelvis, turn, feet)
    return Act(pelvis, turn, back, head, feet, hands, {s: 6 * bounce for s in SIDES})


def kick() -> Act:
    """A front kick with the right leg, arms up for balance."""
    times = seconds(2.6)
    up = flow(
        times,
        [(0, 0), (0.45, 0), (0.85, 0.55), (1.1, 1), (1.3, 0.85), (1.75, 0.2), (2.1, 0), (2.6, 0)],
    )
    guard = ease(times, [(0, 0), (0.6, 1), (1.8, 1), (2.6, 0)])
    feet = standing_feet(times, apart=0.0, out=10.0, ahead={"Left": 0.10, "Right": -0.16})
    start = np.array([-0.09, 0.16, ANKLE])
    path = flow(
        times,
        [
            (0, start),
            (0.4, start),
            (0.8, [-0.09, -0.16, 0.45]),
            (1.1, [-0.07, -0.78, 0.92]),
            (1.3, [-0.08, -0.62, 0.78]),
            (1.7, [-0.09, -0.02, 0.24]),
            (2.1, start),
            (2.6, start),
        ],
    )
    pitch = flow(
        times, [(0, 0), (0.4, 0), (0.75, -30), (1.1, 40), (1.4, 0), (1.8, -20), (2.1, 0), (2.6, 0)]
    )
    feet["Right"] = Foot(path, pitch, feet["Right"].yaw, np.zeros(len(times)))
    feet["Left"] = heel_up(feet["Left"], 4 * up)
    pelvis = columns(0.02 + 0.06 * up, 0.01 - 0.06 * up, STANDING - 0.010 - 0.015 * up, times=times)
    turn = columns(-14 * up, -4 * up, 14 * up, times=times)
    pelvis[:, 2] = _lowered(pelvis, turn, feet)
    back = columns(4 - 8 * up, 2 * up, -8 * up, times=times)
    hang = hanging(times, pelvis, turn, back)
    hands = {}
    for side, x in SIDES.items():
        raised = pelvis + np.array([x * 0.20, -0.26 + 0.10 * (x < 0), 0.42])
        g = guard[:, None]
        hands[side] = Hand(
            hang[side].wrist * (1 - g) + raised * g,
            hang[side].elbow * (1 - g) + np.array([x * 0.5, 0.4, -0.9]) * g,
            hang[side].roll * (1 - guard) - 20 * guard,
        )
    return Act(pelvis, turn, back, columns(8 * up, 0, -4 * up, times=times), feet, hands)


ACTS: dict[str, Callable[[], Act]] = {
    f.__name__: f
    for f in (
        walk,
        run,
        crouch,
        squat,
        sit_down,
        sit,
        pick_up,
        lift_box,
        carry_box,
        reach_high,
        wave,
        jumping_jack,
        lie_down,
        dance,
        kick,
    )
}


def main() -> None:
    """Write the named acts, or all."""
    folder = Path(__file__).parent
    for name in sys.argv[1:] or ACTS:
        write(folder / f"{name}.bvh", ACTS[name]())
        print(f"{name}.bvh: {(folder / f'{name}.bvh').stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
